"""``llm mlx-sidecar``: which models ``llm`` knows by their names."""

from __future__ import annotations

import click

from . import names
from .running import sidecar


@click.group("mlx-sidecar")
def commands() -> None:
    """Models of mlx-sidecar, which run on this machine."""


@commands.command()
@click.argument("name")
@click.option("--embedding", is_flag=True, help="It makes vectors, and answers no chats.")
def add(name: str, embedding: bool) -> None:
    """Add a model: a directory, or a hub id."""
    known = names.read()
    kind = known.embedding if embedding else known.chat
    if name in kind:
        raise click.ClickException(f"{name} is there already")
    kind.append(name)
    names.write(known)
    click.echo(f"mlx-sidecar/{name}")


@commands.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a model from the list. Its files stay."""
    known = names.read()
    if name not in (*known.chat, *known.embedding):
        raise click.ClickException(f"{name} is not there; there are: {', '.join((*known.chat, *known.embedding))}")
    names.write(
        names.Names(
            [other for other in known.chat if other != name], [other for other in known.embedding if other != name]
        )
    )


@commands.command("list")
def list_() -> None:
    """List the models on this machine, with a star at those that llm knows."""
    known = names.read()
    for model in sidecar().local_list().models:
        mark = "*" if model.name in (*known.chat, *known.embedding) else " "
        problem = f"  ({model.problem})" if model.problem else ""
        click.echo(f"{mark} {model.name}{problem}")

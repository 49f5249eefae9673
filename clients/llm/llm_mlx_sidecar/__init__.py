"""The plugin of mlx-sidecar for ``llm``: what ``llm`` calls when it looks for models and commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
import llm

from . import names
from .commands import commands
from .embedding import SidecarEmbeddingModel
from .model import AsyncSidecarModel, SidecarModel


@llm.hookimpl
def register_models(register: Callable[..., None], model_aliases: Sequence[Any]) -> None:
    """Register ``pocket`` and the models that were added, each as ``mlx-sidecar/NAME`` and by its name alone.

    Args:
        register: Takes a model, its asynchronous sibling, and aliases.
        model_aliases: The models of plugins before this one, whose names are left to them.
    """
    taken = {alias for other in model_aliases for alias in (*other.aliases, other.model and other.model.model_id)}
    for name in names.read().chat:
        register(SidecarModel(name), AsyncSidecarModel(name), aliases=() if name in taken else (name,))


@llm.hookimpl
def register_embedding_models(register: Callable[..., None]) -> None:
    """Register the embedding models that were added, each as ``mlx-sidecar/NAME``."""
    for name in names.read().embedding:
        register(SidecarEmbeddingModel(name))


@llm.hookimpl
def register_commands(cli: click.Group) -> None:
    """Register ``llm mlx-sidecar``."""
    cli.add_command(commands)

"""The command ``models``: what lies on this machine, and how more comes there.

A subcommand is a line in ``COMMANDS`` and a module of this package with ``add_arguments``.
"""

from __future__ import annotations

from ..arguments import Command, add_commands
from ..parser import Parser

COMMANDS = (
    Command("list", "models of the hub's cache, imported ones, and those of other folders", ".models.listing"),
    Command("show", "one model: where it is, its size, quantisation and limits", ".models.show"),
    Command("pull", "download a model from the hub, or what is missing of it", ".models.pull"),
    Command("import", "make a model of a GGUF file", ".models.import_gguf"),
    Command("rm", "delete models of the hub's cache, or imported ones", ".models.remove"),
    Command("convert", "copy a model in mlx's format, quantised or not, by mlx_lm's convert", ".models.convert"),
)


def add_arguments(parser: Parser) -> None:
    """Define the subcommands."""
    add_commands(parser, COMMANDS)

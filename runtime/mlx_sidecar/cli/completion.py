"""The command ``completion``: a script for a shell, made of the parser by shtab."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .parser import Parser

_DESCRIPTION = """\
Writes a script that completes commands and options.
  bash   mlx-sidecar completion bash > ~/.local/share/bash-completion/completions/mlx-sidecar
  zsh    mlx-sidecar completion zsh > DIR/_mlx-sidecar        DIR being one of $fpath
  fish   mlx-sidecar completion fish > ~/.config/fish/completions/mlx-sidecar.fish
"""


def add_arguments(parser: Parser) -> None:
    """Define the argument of ``completion``."""
    parser.description, parser.formatter_class = _DESCRIPTION, argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=run)
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])


def run(args: argparse.Namespace) -> int:
    """Write the script to stdout; returns the exit status."""
    import shtab

    from .arguments import command_line

    parser = command_line()
    _name_paths(parser, {"DIR": shtab.DIRECTORY, "FILE": shtab.FILE})
    sys.stdout.write(shtab.complete(parser, shell=args.shell))
    return 0


def _name_paths(parser: Parser, kinds: dict[str, Any]) -> None:
    """Say of each argument that is a path which kind it is; shtab reads it from the attribute ``complete``."""
    for action in parser._actions:
        if isinstance(action.metavar, str) and action.metavar in kinds:
            vars(action)["complete"] = kinds[action.metavar]
    for command in parser.commands.values():
        _name_paths(command, kinds)

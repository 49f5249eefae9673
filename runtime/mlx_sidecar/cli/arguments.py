"""The command line: its commands, each a module of its own, and the parser over all of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from .. import __version__
from .parser import Parser

_EXAMPLES = """\
examples:
  mlx-sidecar chat                        talk to the embedded pocket model
  mlx-sidecar chat mlx-community/Qwen3-4B-4bit
                                          download it from the hub on first use, then talk to it
  mlx-sidecar generate pocket "Hello"     one answer, then exit
  mlx-sidecar gateway --model pocket      the same for programs that speak OpenAI's HTTP interface
  mlx-sidecar models list                 the models that lie on this machine
  echo '{"jsonrpc":"2.0","id":1,"method":"generate","params":{"model":"pocket","prompt":"Hello"}}' \\
    | mlx-sidecar serve                   the engine itself: JSON-RPC on stdin and stdout
  mlx-sidecar doctor                      what a bug report should hold
"""


class CommandModule(Protocol):
    """A command: a module of this package that imports nothing heavy before it runs."""

    def add_arguments(self, parser: Parser, /) -> None:
        """Define the command's options.

        The default ``run`` is the function that carries the command out: parsed arguments to exit status.
        """


@dataclass(frozen=True)
class Command:
    """A word of the command line, a line of help, and the module of the command, named from this package."""

    name: str
    help: str
    module: str


COMMANDS = (
    Command("serve", "the engine: JSON-RPC on stdin and stdout", ".serve"),
    Command("chat", "talk to a model in the terminal", ".chat"),
    Command("generate", "one answer, then exit", ".generate"),
    Command("gateway", "an HTTP server for clients of OpenAI's interface", ".gateway"),
    Command("log", "requests of a gateway's log: the last, the slowest, the failed ones; one sent again", ".log"),
    Command("models", "models on this machine: list, show, pull, remove, convert", ".models"),
    Command("doctor", "facts for a bug report and a self-test; what is wrong with a model", ".doctor"),
    Command("config", "the defaults that you have set, and where", ".config"),
    Command("completion", "completion of commands and options for bash, zsh or fish", ".completion"),
    Command("manual", "these pages for man", ".manual"),
)


def command_line(words: Sequence[str] = ()) -> Parser:
    """The parser of the command that ``words`` begin with; of all commands where they begin with none.

    ``serve`` then waits neither for the other commands' modules nor for their options: a third of the time.
    """
    parser = Parser(
        prog="mlx-sidecar",
        description="A language-model engine that any program can spawn.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.summary = "a language-model engine that any program can spawn"
    parser.add_argument("--version", action="version", version=f"mlx-sidecar {__version__}")
    add_commands(parser, COMMANDS, words)
    return parser


def add_commands(parser: Parser, commands: Sequence[Command], words: Sequence[str] = ()) -> None:
    """Give ``parser`` a parser for each of ``commands``, or for the one that ``words`` begin with."""
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = [command for command in commands if command.name in words[:1]]
    for command in named or commands:
        module = cast(CommandModule, import_module(command.module, __package__))
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        subparser.set_defaults(parser=subparser)
        subparser.summary = command.help
        module.add_arguments(subparser)
        parser.commands[command.name] = subparser

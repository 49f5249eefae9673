"""The command ``manual``: pages for man, made of the parser."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from .failures import Refused
from .parser import Parser, nearest

_STATUSES = (
    ("0", "done"),
    ("1", "anything that the others are not, such as a full disk"),
    ("2", "a wrong command line, or a wrong setting"),
    ("3", "a model that is not there or cannot be loaded"),
    ("4", "a parameter or a prompt that is refused"),
    ("5", "an engine that failed"),
    ("130", "cancelled by Ctrl-C"),
)


def add_arguments(parser: Parser) -> None:
    """Define the arguments of ``manual``."""
    parser.description = "Writes the page of a command, or of all to files. mlx-sidecar manual chat | man -l -"
    parser.set_defaults(run=run)
    parser.add_argument(
        "page", nargs="?", metavar="COMMAND", help="as on the command line (default: mlx-sidecar itself)"
    )
    parser.add_argument("--output", metavar="DIR", help="write every page into this folder, such as share/man/man1")


def run(args: argparse.Namespace) -> int:
    """Write one page to stdout, or all to a folder; returns the exit status."""
    from .arguments import command_line

    pages = dict(_parsers(command_line()))
    if args.output is not None:
        folder = Path(args.output)
        try:
            write_pages(folder)
        except OSError as error:
            raise Refused(f"{folder} cannot be written to: {error.strerror}") from error
        return 0
    name = "-".join(["mlx-sidecar", *(args.page or "").split()])
    if name not in pages:
        commands = [known.removeprefix("mlx-sidecar-").replace("-", " ") for known in pages]
        args.parser.error(f"no command {args.page!r}{nearest(args.page, commands)}")
    sys.stdout.write(page(pages[name], list(pages)))
    return 0


def write_pages(folder: Path) -> None:
    """Write the page of every command into ``folder``. Raises OSError."""
    from .arguments import command_line

    pages = dict(_parsers(command_line()))
    folder.mkdir(parents=True, exist_ok=True)
    for name, parser in pages.items():
        (folder / f"{name}.1").write_text(page(parser, list(pages)), encoding="utf-8")


def _parsers(parser: Parser) -> Iterator[tuple[str, Parser]]:
    """Every parser by the name of its page."""
    yield parser.prog.replace(" ", "-"), parser
    for command in parser.commands.values():
        yield from _parsers(command)


def page(parser: Parser, names: list[str]) -> str:
    """The page of one command, in roff; ``names`` are those of all pages."""
    from .. import __version__

    name = parser.prog.replace(" ", "-")
    lines = [f'.TH {name.upper()} 1 "" "mlx-sidecar {__version__}"', ".SH NAME"]
    lines += [rf"{_roff(name)} \- {_roff(parser.summary)}", ".SH SYNOPSIS"]
    lines += [".nf", _roff(parser.format_usage().removeprefix("usage: ").rstrip()), ".fi"]
    lines += [".SH DESCRIPTION", *_text(parser.description or "")]
    for group in parser._action_groups:
        if shown := [action for action in group._group_actions if action.help != argparse.SUPPRESS]:
            lines += [f".SH {_roff((group.title or 'options').upper())}", *_actions(parser, shown)]
    if parser.epilog:
        lines += [".SH EXAMPLES", *_text(parser.epilog.removeprefix("examples:"))]
    lines += [".SH EXIT STATUS", *(line for status, why in _STATUSES for line in (".TP", status, _roff(why)))]
    lines += [".SH SEE ALSO", ", ".join(f"{_roff(other)}(1)" for other in names if other != name)]
    return "\n".join(lines) + "\n"


def _actions(parser: Parser, actions: list[argparse.Action]) -> Iterator[str]:
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield from (".TP", rf"\fB{_roff(choice.dest)}\fR", _roff(choice.help or ""))
            continue
        value = "" if action.nargs == 0 else _value(action)
        flags = ", ".join(rf"\fB{_roff(option)}\fR" for option in action.option_strings)
        yield from (".TP", f"{flags} {value}".strip(), _roff(_help(parser, action)) or r"\&")


def _value(action: argparse.Action) -> str:
    if action.choices:
        return _roff("{" + ",".join(map(str, action.choices)) + "}")
    word = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    return rf"\fI{_roff(str(word))}\fR"


def _help(parser: Parser, action: argparse.Action) -> str:
    return (action.help or "") % {"prog": parser.prog, "default": action.default}


def _text(text: str) -> Iterator[str]:
    """Lines of prose as paragraphs, and lines that are set in as they are."""
    for line in text.strip("\n").splitlines():
        yield from (".nf", _roff(line), ".fi") if line.startswith(" ") else (_roff(line),)


def _roff(text: str) -> str:
    """``text`` with what roff would take for its own."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", escaped)
    return "\n".join(rf"\&{line}" if line.startswith((".", "'")) else line for line in escaped.split("\n"))

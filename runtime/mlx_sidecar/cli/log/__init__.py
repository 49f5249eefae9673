"""The command ``log``: what a gateway's request log says, and one of its requests sent again."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..argument_types import positive
from ..parser import Parser
from ..standard_streams import text_of

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_USUAL = 20


def add_arguments(parser: Parser) -> None:
    """Define the options of ``log``."""
    parser.description = (
        "Lists requests of the log that a gateway writes with --request-log FILE, its older parts FILE.1, FILE.2 … "
        "among them. Lines that are no requests are left out and counted."
    )
    parser.set_defaults(run=run)
    parser.add_argument("file", metavar="FILE", type=text_of, help="the gateway's --request-log")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--last", type=positive, default=_USUAL, metavar="N", help=f"the latest (default: {_USUAL})")
    which.add_argument(
        "--slowest", type=positive, nargs="?", const=_USUAL, metavar="N", help=f"those that took longest ({_USUAL})"
    )
    which.add_argument(
        "--replay", metavar="ID", help="send this one again, which a gateway with --log-prompts has logged"
    )
    _add_conditions(parser.add_argument_group("of those alone"))
    parser.add_argument("--json", action="store_true", help="their lines as they are")
    replay = parser.add_argument_group("for --replay")
    replay.add_argument(
        "--gateway",
        default="http://127.0.0.1:8080",
        metavar="URL",
        help="the gateway that it goes to, or unix:PATH (default: http://127.0.0.1:8080)",
    )
    replay.add_argument("--key-file", metavar="FILE", type=text_of, help="holds the key that the gateway asks for")


def _add_conditions(group: argparse._ActionsContainer) -> None:
    group.add_argument("--failed", action="store_true", help="that were refused, or whose answer broke off")
    group.add_argument("--key", type=text_of, metavar="NAME", help="of the holder of this key")
    group.add_argument("--model", type=text_of, metavar="NAME", help="that named this model")
    group.add_argument("--since", type=_since, metavar="TIME", help="that came in the last 90s, 30m, 1h or 2d")


def run(args: argparse.Namespace) -> int:
    """List requests, or send one again; returns the exit status."""
    from ..terminal import counted, note
    from ..terminal_text import harmless
    from .entries import Tally, read
    from .selection import found, selected
    from .table import show

    tally = Tally()
    lines = read(Path(args.file), tally)
    if args.replay is not None:
        from .replay import replay

        return replay(found(lines, args.replay), args.gateway, args.key_file)
    chosen = selected(lines, args)
    if args.json:
        for line in chosen:
            raw = line.raw.rstrip("\n")
            sys.stdout.write(f"{harmless(raw) if sys.stdout.isatty() else raw}\n")
    else:
        show([line.entry for line in chosen])
    if tally.foreign:
        note(f"{counted(tally.foreign, 'line')} left out that {'is' if tally.foreign == 1 else 'are'} no request")
    if tally.dropped:
        note(f"{counted(tally.dropped, 'request')} missing: the gateway could not write fast enough, or not at all")
    return 0


def _since(text: str) -> datetime:
    parts = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 30m, 1h or 2d")
    return datetime.now(UTC) - timedelta(**{_UNITS[parts[2]]: int(parts[1])})

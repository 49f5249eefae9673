"""The requests that are asked for, of however many."""

from __future__ import annotations

import argparse
import heapq
from collections import deque
from collections.abc import Iterable

from ..failures import USAGE, Refused
from .entries import Entry, Line


def selected(lines: Iterable[Line], args: argparse.Namespace) -> list[Line]:
    """The latest, or the slowest first, of those that meet every condition; no others are kept in memory."""
    wanted = (line for line in lines if _is_wanted(line.entry, args))
    if args.slowest is not None:
        return heapq.nlargest(args.slowest, wanted, key=lambda line: line.entry.duration_s)
    return list(deque(wanted, maxlen=args.last))


def found(lines: Iterable[Line], id_: str) -> Line:
    """The one request whose id begins with ``id_``. Raises ``Refused`` if there is none, or another."""
    first: Line | None = None
    for line in lines:
        if line.entry.id.startswith(id_):
            if first is not None and first.entry.id != line.entry.id:
                raise Refused(f"--replay {id_}: several requests begin so: {first.entry.id}, {line.entry.id}", USAGE)
            first = line
    if first is None:
        raise Refused(f"--replay {id_}: the log has no such request", USAGE)
    return first


def _is_wanted(entry: Entry, args: argparse.Namespace) -> bool:
    return (
        (entry.failed or not args.failed)
        and args.key in (None, entry.key)
        and args.model in (None, entry.model)
        and (args.since is None or entry.ts >= args.since)
    )

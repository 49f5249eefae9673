"""How much one JSON text holds, counted before it is parsed: a parser makes an object of each value, and never pauses.

Strings are jumped over, what stands between them is counted by the machine's own search, both in slices: so another
thread of the process goes on meanwhile. A text that is no JSON is counted somehow; the parser will say what is wrong.
"""

from __future__ import annotations

import re

from .limits import Limits

_SLICE = 1 << 18  # bytes, two at least; a fraction of a millisecond
_REST = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)  # of a string, up to its closing quote
_ID = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*)', re.DOTALL)
_SPACE = b" \t\r\n"


class Extent:
    """What is in a text: ``values`` (commas), ``members`` of objects (colons), and ``containers`` (brackets)."""

    def __init__(self) -> None:
        self.values = self.members = self.containers = 0

    def excess(self, limits: Limits) -> tuple[str, int] | None:
        """What there is too much of, and its limit."""
        for name in ("values", "members", "containers"):
            if getattr(self, name) > (limit := getattr(limits, name)):
                return name, limit
        return None

    def add(self, frame: bytes, start: int, end: int) -> int:
        """Count what stands between two strings; how much deeper one is behind it."""
        self.values += frame.count(b",", start, end)
        self.members += frame.count(b":", start, end)
        opened = frame.count(b"{", start, end) + frame.count(b"[", start, end)
        self.containers += opened
        return opened - frame.count(b"}", start, end) - frame.count(b"]", start, end)


def may_exceed(frame: bytes, limits: Limits) -> bool:
    """Whether ``frame`` is long enough to hold too much: each of what is counted takes a byte, each member two more."""
    return len(frame) > min(limits.values, limits.containers, 3 * limits.members)


def find_excess(frame: bytes, limits: Limits) -> tuple[str, int, bytes | None] | None:
    """What ``frame`` has too much of, the limit, and its id as it was written, if that is found; None if it fits.

    Too deep it may be as well, and is then called so: ``nesting``.
    """
    extent, at, depth = Extent(), 0, 0
    id_: bytes | None = None
    while at < len(frame):
        quote = frame.find(b'"', at, at + _SLICE)
        end = min(at + _SLICE, len(frame)) if quote < 0 else quote
        depth += extent.add(frame, at, end)
        if depth > limits.nesting:
            return "nesting", limits.nesting, None
        at = end
        if quote >= 0:
            at = _behind_string(frame, quote + 1)
            if id_ is None and depth == 1 and frame[quote:at] == b'"id"' and (found := _ID.match(frame, at)):
                id_ = found[1]
        excess = extent.excess(limits)
        if excess is not None and (id_ is not None or not frame[:1024].lstrip(_SPACE).startswith(b"{")):
            break  # of a batch no single id could be told
    excess = extent.excess(limits)
    return None if excess is None else (*excess, id_)


def _behind_string(frame: bytes, at: int) -> int:
    """Where the string whose first byte is at ``at`` is over, its closing quote included."""
    while at < len(frame):
        found = _REST.match(frame, at, at + _SLICE)
        assert found is not None  # it matches nothing, too
        behind = found.end()
        if behind < len(frame) and frame[behind] == ord('"') and behind < at + _SLICE:
            return behind + 1
        at = behind if behind > at else at + 1  # a backslash in the last place of a slice is looked at again
    return at

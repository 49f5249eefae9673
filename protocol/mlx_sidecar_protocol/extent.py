"""Counts the values of a JSON text before it is parsed, because a parser makes an object of each and never pauses.

Strings are skipped, and the text between them is searched, in slices, so that other threads get the interpreter
meanwhile. Counts of a text that is no JSON mean nothing; the parser will refuse it.
"""

from __future__ import annotations

import re

from .limits import Limits

_SLICE = 1 << 18  # bytes, at least 2; counting them takes less than 1 ms
_REST = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)  # of a string, up to its closing quote
_ID = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*)', re.DOTALL)
_SPACE = b" \t\r\n"


class Extent:
    """Counts of a text: ``values`` (commas), ``members`` of objects (colons), and ``containers`` (brackets)."""

    def __init__(self) -> None:
        self.values = self.members = self.containers = 0

    def excess(self, limits: Limits) -> tuple[str, int] | None:
        """The name and the limit of the first count that is over its limit."""
        for name in ("values", "members", "containers"):
            if getattr(self, name) > (limit := getattr(limits, name)):
                return name, limit
        return None

    def add(self, frame: bytes, start: int, end: int) -> int:
        """Count the bytes from ``start`` to ``end``, between two strings; returns the change in nesting."""
        self.values += frame.count(b",", start, end)
        self.members += frame.count(b":", start, end)
        opened = frame.count(b"{", start, end) + frame.count(b"[", start, end)
        self.containers += opened
        return opened - frame.count(b"}", start, end) - frame.count(b"]", start, end)


def may_exceed(frame: bytes, limits: Limits) -> bool:
    """Whether ``frame`` is long enough to exceed a limit: each count takes a byte, each member two more."""
    return len(frame) > min(limits.values, limits.containers, 3 * limits.members)


def find_excess(frame: bytes, limits: Limits) -> tuple[str, int, bytes | None] | None:
    """The name of an exceeded limit, the limit, and the frame's id as it was written; None if ``frame`` fits.

    The id is None if it is not found. A frame nested too deep gives ``nesting``.
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
            break  # a batch has no single id to look for
    excess = extent.excess(limits)
    return None if excess is None else (*excess, id_)


def _behind_string(frame: bytes, at: int) -> int:
    """The position behind the closing quote of the string whose first byte is at ``at``."""
    while at < len(frame):
        found = _REST.match(frame, at, at + _SLICE)
        assert found is not None  # the pattern matches the empty text
        behind = found.end()
        if behind < len(frame) and frame[behind] == ord('"') and behind < at + _SLICE:
            return behind + 1
        at = behind if behind > at else at + 1  # a backslash at the end of a slice begins the next one
    return at

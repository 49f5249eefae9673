"""Messages of MessagePack one behind the other: where each of them ends. Decoding is msgspec's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

# Bytes of the value, or of its length, behind the type byte.
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_FIXED |= {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_SIZED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_SIZED |= {0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}
_ARRAYS, _MAPS = {0xDC: 2, 0xDD: 4}, {0xDE: 2, 0xDF: 4}


class Incomplete(Exception):
    """The rest has not come yet."""


def _end(data: bytes, at: int) -> int:
    """The place behind the value that begins at `at`."""
    open_values = 1
    while open_values:
        if at >= len(data):
            raise Incomplete
        kind = data[at]
        at += 1
        open_values -= 1
        size = 0
        if kind in _FIXED:
            size = _FIXED[kind]
        elif kind in _SIZED:
            width, more = _SIZED[kind]
            size = width + more + int.from_bytes(data[at : at + width])
        elif kind in _ARRAYS or kind in _MAPS:
            size = _ARRAYS.get(kind) or _MAPS[kind]
            open_values += int.from_bytes(data[at : at + size]) * (1 if kind in _ARRAYS else 2)
        elif 0x80 <= kind <= 0x9F:
            open_values += (kind & 0x0F) * (2 if kind < 0x90 else 1)
        elif 0xA0 <= kind <= 0xBF:
            size = kind & 0x1F
        at += size
    if at > len(data):
        raise Incomplete
    return at


class Messages:
    """Takes bytes as they come, gives whole messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Any]:
        self._rest += data
        at = 0
        try:
            while at < len(self._rest):
                end = _end(self._rest, at)
                # Handles of buffers, windows and tab pages are extension values; nobody here looks into them.
                yield msgspec.msgpack.decode(self._rest[at:end], ext_hook=lambda code, value: (code, bytes(value)))
                at = end
        except Incomplete:
            pass
        self._rest = self._rest[at:]

"""Server-sent events, read from bytes in any pieces, and no longer than a bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


class Malformed(Exception):
    """These bytes are no answer of the interface; the message says why."""


@dataclass(frozen=True)
class ServerEvent:
    """An event; ``name`` is empty where it has none."""

    name: str
    data: str


class EventDecoder:
    """Takes bytes, gives the events that have come whole. Comments, ids and times to retry are left out.

    ``limit_bytes`` is the longest event. Raises ``Malformed``.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._rest = b""
        self._is_behind_return = False
        self._name = ""
        self._data: list[str] = []
        self._length = 0

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """The events that end in ``data``."""
        # A line may end in CR, LF, or both, which may come in two pieces.
        if self._is_behind_return and data:
            data = data.removeprefix(b"\n")
            self._is_behind_return = False
        if data:
            self._is_behind_return = data.endswith(b"\r")
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        lines[0] = self._rest + lines[0]
        self._rest = lines.pop()
        for line in lines:
            yield from self._line(line)
        self._bound(len(self._rest))

    def _line(self, line: bytes) -> Iterator[ServerEvent]:
        if not line:
            if self._data:
                yield ServerEvent(self._name, "\n".join(self._data))
            self._name, self._data, self._length = "", [], 0
            return
        self._length += len(line)
        self._bound(0)
        try:
            field, _, value = line.decode().partition(":")
        except UnicodeDecodeError:
            raise Malformed("its events are not UTF-8") from None
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field not in ("", "id", "retry"):
            raise Malformed("its body holds no events")

    def _bound(self, more: int) -> None:
        if self._length + more > self._limit_bytes:
            raise Malformed(f"an event is longer than {self._limit_bytes} bytes")

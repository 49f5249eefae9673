"""Decoders for streaming over HTTP: chunked bodies and server-sent events, fed with bytes as they come."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a CR at the very end may be half of a CRLF


class EventStream:
    """Server-sent events (WHATWG HTML, section 9.2.6): the data of each event; other fields are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[str]:
        """Return the events that ``data`` completes."""
        *lines, self._rest = _LINE_END.split(self._rest + data)
        events: list[str] = []
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                events.append("\n".join(self._data))
                self._data = []
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode())


class ChunkError(ValueError):
    """A chunk does not begin with its size."""


class ChunkedBody:
    """Transfer-Encoding: chunked (RFC 9112, section 7.1). Trailers are passed over."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._left: int | None = None  # of the chunk being read; None: its size comes next
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """Return the part of the body that ``data`` brings.

        Raises:
            ChunkError
        """
        self._rest += data
        body = bytearray()
        while not self.ended:
            if self._left is None:
                if (size := self._size()) is None:
                    break
                self._left, self.ended = size + 2, size == 0
            elif not self._rest:
                break
            else:
                body += self._content()
        return bytes(body)

    def _size(self) -> int | None:
        line, found, rest = bytes(self._rest).partition(b"\r\n")
        if not found:
            return None
        self._rest = bytearray(rest)
        try:
            return int(line.partition(b";")[0], 16)
        except ValueError:
            raise ChunkError(f"not a chunk size: {line!r}") from None

    def _content(self) -> bytes:
        """Return the part of the chunk that is there, without the CRLF after it, which counts as part of it."""
        assert self._left is not None
        piece = bytes(self._rest[: self._left])
        del self._rest[: self._left]
        inside = max(0, self._left - 2)
        self._left = self._left - len(piece) or None
        return piece[:inside]

"""Clients that open streams and count events as they come, without reading these."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

_EVENT_END = b"}\n"  # of an event or a line of JSON; a line feed inside of one is escaped
BEGUN = 10  # events of a stream that has begun: a start and pings can come long before the first text
_TOLD_BYTES = 200  # in the message about a stream that ended
_PATIENCE_S = 60.0


class Tally:
    """The events of all streams: their number and bytes, framing included, and whether each stream has begun."""

    def __init__(self, streams: int) -> None:
        self.events = 0
        self.bytes = 0
        self.all_begun = asyncio.Event()
        self.lost: str | None = None
        self._silent = streams

    def begin(self) -> None:
        self._silent -= 1
        if not self._silent:
            self.all_begun.set()

    def lose(self, why: str) -> None:
        """A stream ended, which none should."""
        self.lost = why
        self.all_begun.set()


class _Stream(asyncio.Protocol):
    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request, self._tally = request, tally
        self._last = b""  # of what came
        self._events = 0
        self._is_left = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        events = (self._last[-1:] + data).count(_EVENT_END)
        self._last = data[-_TOLD_BYTES:]
        self._tally.bytes += len(data)
        had_begun = self._events >= BEGUN
        self._events += events
        if self._events >= BEGUN and not had_begun:
            self._tally.begin()
        self._tally.events += events

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_left:
            self._tally.lose(f"a stream ended after {self._events} events ({exc}): …{self._last!r}")

    def leave(self) -> None:
        self._is_left = True
        self._transport.abort()


class Asked(NamedTuple):
    """So many streams of one request."""

    path: str
    body: dict[str, Any]
    streams: int

    def request(self, port: int) -> bytes:
        data = json.dumps(self.body).encode()
        lines = [f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(data)}"]
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


@asynccontextmanager
async def opened(port: int, *asked: Asked) -> AsyncIterator[Tally]:
    """Streams, all of which have begun; leaving the block leaves them.

    Raises:
        RuntimeError: a stream ended by itself.
        TimeoutError: a stream has not begun.
    """
    requests = [each.request(port) for each in asked for _ in range(each.streams)]
    tally = Tally(len(requests))
    loop = asyncio.get_running_loop()
    made: list[_Stream] = []
    try:
        for request in requests:
            _, stream = await loop.create_connection(partial(_Stream, request, tally), "127.0.0.1", port)
            made.append(stream)
        async with asyncio.timeout(_PATIENCE_S):
            await tally.all_begun.wait()
        if tally.lost is None:
            yield tally
        if tally.lost is not None:
            raise RuntimeError(tally.lost)
    finally:
        for stream in made:
            stream.leave()

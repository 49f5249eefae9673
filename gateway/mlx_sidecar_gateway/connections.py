"""Connections, bounded in their number, and in the time and the length that the head of a request may have."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from .core.exchange import PARTS, SURPLUS
from .core.faults import HEADER_TIMEOUT, HEADER_TOO_LONG
from .surfaces.faults import Fault

HEAD_LIMIT_BYTES = 64 * 2**10
SEND_BUFFER_BYTES = 64 * 2**10
_WAITING_BYTES = 8 * 2**10
TOLD = 64  # connections beyond the limit that are still told why they get nothing; more are closed at once
_OTHER_FILES = 64  # that a process has open beside its connections


@dataclass
class Bounds:
    """The bounds of all connections of a server, and how many there are.

    wording: Makes the body of an answer to a client that has not said yet which interface it speaks.
    """

    connection_limit: int
    header_timeout_s: float
    wording: Callable[[Fault], bytes]
    taken: int = 0
    surplus: int = 0


def make_room_for(connections: int) -> bool:
    """Let this process have so many connections open; returns whether the system allows it."""
    needed = connections + TOLD + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):
        return False
    return True


class BoundedConfig(uvicorn.Config):
    """The configuration of a server whose connections have bounds."""

    def __init__(self, app: ASGIApp, bounds: Bounds, **options: Any) -> None:
        super().__init__(app, http=BoundedProtocol, **options)
        self.bounds = bounds


class _Parts:
    """The parts of a response in uvicorn's chunks, written as its ``send`` does once nothing makes that wait."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    @property
    def are_taken(self) -> bool:
        cycle = self._cycle
        is_open = cycle.chunked_encoding and not (cycle.response_complete or cycle.disconnected)
        return bool(is_open) and not cycle.flow.write_paused

    def write(self, data: bytes) -> None:
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))


class BoundedProtocol(HttpToolsProtocol):
    """A connection.

    While it waits for the rest of a head it has ``header_timeout_s`` in all, however often a byte of it comes. uvicorn
    itself bounds only the time between two requests.
    """

    def __init__(
        self,
        config: BoundedConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = config.bounds
        self._is_surplus = self._bounds.taken >= self._bounds.connection_limit
        if self._is_surplus:
            self.app_state = {**app_state, SURPLUS: True}
        self._head_timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0

    # asyncio's side.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Else the kernel takes megabytes for a client that does not read, all of which the engine would compute.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        # Bytes that the kernel does not take wait here, event by event, each with hundreds of bytes of uvloop's own.
        transport.set_write_buffer_limits(high=_WAITING_BYTES)
        self._count(1)
        if self._is_surplus and self._bounds.surplus > TOLD:
            transport.abort()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._count(-1)
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # Bytes behind an answer may also be the rest of a body that was refused, for which the time holds as well.
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None until the first request
        if self._head_timer is None and (cycle is None or cycle.response_complete):
            self._await_head()
        super().data_received(data)
        if self._in_head and self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(HEADER_TOO_LONG)

    # The parser's side.

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        # The task of the request has been made, but has not begun.
        self.scope["extensions"] = {PARTS: _Parts(self.cycle)}  # type: ignore[dict-item]  # a server may add any

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self._bounds.header_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._in_head:
            self._refuse(HEADER_TIMEOUT)
        else:  # nothing has been asked that has no answer
            self.transport.close()

    def _refuse(self, fault: Fault) -> None:
        """Answer a request that cannot be read, and close."""
        self._stop_timer()
        body = self._bounds.wording(fault)
        lines = [
            f"HTTP/1.1 {fault.status} {HTTPStatus(fault.status).phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        if not self.transport.is_closing():
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _count(self, change: int) -> None:
        if self._is_surplus:
            self._bounds.surplus += change
        else:
            self._bounds.taken += change

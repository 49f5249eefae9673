"""An exchange is one HTTP request with its response, over ASGI."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Protocol
from urllib.parse import parse_qsl

import anyio
from starlette.types import Message, Receive, Scope, Send

from ..surfaces.faults import Fault, Refused
from .comebacks import Comebacks
from .faults import headers_of
from .records import Record

SURPLUS = "mlx_sidecar_surplus"  # in the state of a connection that is one too many
PARTS = "mlx_sidecar.parts"  # among the extensions of a scope: its ``Parts``, where the server has them


class Parts(Protocol):
    """Writes parts of a response that has begun without a wait, which ASGI's ``send`` cannot promise."""

    @property
    def are_taken(self) -> bool:
        """Whether the client has taken enough of what was written, so that another part may be."""
        ...

    def write(self, data: bytes) -> None:
        """Write a part, if ``are_taken``."""
        ...


class ClientLeft(Exception):
    """The client went away before its request was whole, or before it had the whole response."""


class Exchange:
    """A request of which the body is read once, and a response that is written once, whole or in parts.

    ``extra`` are headers that any response gets. ``is_surplus``: it came by a connection that is one too many.
    ``record`` is kept by all that takes part in the answer.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, comebacks: Comebacks | None = None) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.method: str = scope["method"]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.path: Mapping[str, str] = scope.get("path_params", {})
        self.query: Mapping[str, str] = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        self.id = secrets.token_hex(16)
        self.record = Record.of(self.id, self.method, scope["path"], self.headers)
        # OpenAI's clients read the first, Anthropic's the second.
        self.extra = {"x-request-id": self.id, "request-id": self.id}
        self.is_begun = False
        self.is_surplus = bool(scope.get("state", {}).get(SURPLUS))
        if self.is_surplus:
            self.extra["connection"] = "close"
        self._comebacks = comebacks or Comebacks()
        self.parts: Parts | None = None  # once it is begun, where the server has them

    async def body(self, limit_bytes: int, timeout_s: float) -> bytes:
        """The whole body. Raises ``Refused`` if it is too long or too slow, ``ClientLeft`` if it never ends."""
        if int(self.headers.get("content-length", 0)) > limit_bytes:
            raise Refused(_too_long(limit_bytes))
        parts, length = [], 0
        with anyio.move_on_after(timeout_s):
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                parts.append(message.get("body", b""))
                length += len(parts[-1])
                if length > limit_bytes:
                    raise Refused(_too_long(limit_bytes))
                if not message.get("more_body", False):
                    self.record.received_bytes = length
                    return b"".join(parts)
        raise Refused(Fault(408, "body_timeout", f"the body was not there after {timeout_s:g} s", retryable=True))

    async def disconnect(self) -> None:
        """Return when the client has gone, or the response is complete. The body must have been read."""
        # Not left to ``send``: uvicorn's drops what is written to a client that left, and where it raises an error
        # instead, as ASGI 2.4 has it, it would do so only after a silent prefill.
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def unless_left(self, work: Awaitable[bytes]) -> bytes:
        """The result of ``work``, which is cancelled if the client goes away. Raises ``ClientLeft``, then."""
        found: list[bytes] = []
        failed: list[Exception] = []
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                await self.disconnect()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                found.append(await work)
            except Exception as error:  # noqa: BLE001 - raised again below, not in a group
                failed.append(error)
            tasks.cancel_scope.cancel()
        if failed:
            raise failed[0]
        if not found:
            raise ClientLeft
        return found[0]

    async def answer(
        self, status: int, body: bytes, media_type: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        """Write the whole response. All that writes raises ``ClientLeft`` where the server tells of it."""
        await self._start(status, {"content-type": media_type, "content-length": str(len(body)), **(headers or {})})
        await self._put({"type": "http.response.body", "body": body})

    async def refuse(self, status: int, body: bytes, fault: Fault) -> None:
        """Write the response that a fault is, and when to come back."""
        self.record.fault(fault)
        # An objective has told it a time of its own: no end of an answer makes a place for it.
        if fault.kind == "overloaded" and fault.retry_after_s is not None and "objective" not in fault.details:
            fault = replace(fault, retry_after_s=self._comebacks.wait_s(fault.retry_after_s))
        await self.answer(status, body, headers=headers_of(fault))

    async def begin(self, media_type: str) -> None:
        """Begin a response with status 200 that is written in parts."""
        # The last one is for nginx, which would hold events back.
        events = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        await self._start(200, {"content-type": media_type, **events})
        self.parts = self._scope.get("extensions", {}).get(PARTS)

    async def write(self, data: bytes) -> None:
        """Write a part; returns when the client has taken enough of what was written before."""
        await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes) -> None:
        """Write the last part."""
        await self._put({"type": "http.response.body", "body": data})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in {**headers, **self.extra}.items()]
        await self._put({"type": "http.response.start", "status": status, "headers": pairs})
        self.record.status = status
        self.is_begun = True  # not before: an answer may be stopped while it waits to begin

    async def _put(self, message: Message) -> None:
        try:
            await self._send(message)
            self.record.sent_bytes += len(message.get("body", b""))
        except OSError:
            raise ClientLeft from None


def _too_long(limit_bytes: int) -> Fault:
    return Fault(413, "body_too_long", f"the body is longer than {limit_bytes} bytes")

"""The peer of the gateway's events: an ASGI application that does nothing but write them, over the same server.

``/health`` is answered 200. ``/BYTES/MILLISECONDS`` is answered by events of so many bytes without an end: one every so
many milliseconds, or, with 0, one in each turn of the event loop.
"""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.types import Message, Receive, Scope, Send

EVENT_END = b"}\n\n"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    await send(start)
    if scope["path"] == "/health":
        await send({"type": "http.response.body", "body": b"{}"})
        return
    size, every_ms = map(int, scope["path"].split("/")[1:])
    event = b"data: ".ljust(size - len(EVENT_END), b"x") + EVENT_END
    part = {"type": "http.response.body", "body": event, "more_body": True}
    writing = asyncio.create_task(_write(send, part, every_ms / 1e3))
    while (await receive())["type"] != "http.disconnect":
        pass
    writing.cancel()


async def _write(send: Send, part: Message, every_s: float) -> None:
    while True:
        await send(part)
        # Also without a wait: each turn of the loop writes what there is, and these would be one write.
        await asyncio.sleep(every_s)


def serve(port: str) -> None:
    """Serve on loopback, with the gateway's choice of parser and event loop."""
    options = {"http": "httptools", "loop": "uvloop", "ws": "none", "lifespan": "off", "access_log": False}
    uvicorn.run(application, host="127.0.0.1", port=int(port), log_config=None, server_header=False, **options)  # type: ignore[arg-type]  # a table of its options

"""For the tests of the gateway: one in our own event loop, over a real sidecar, and a client that sees every byte."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
from anyio.abc import ByteStream

from mlx_sidecar_client import Sidecar
from mlx_sidecar_gateway.core.gateway import Gateway
from mlx_sidecar_gateway.server import host_of, http_server, keep_sidecar, listening
from mlx_sidecar_gateway.settings import Settings

PATIENCE_S = 60.0  # far beyond what anything takes: a test that gets here has found a hang
FAKE = Settings(
    listen="127.0.0.1:0", command=(sys.executable, "-m", "mlx_sidecar"), options=("--engine", "fake"), ping_s=0.5
)
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass(frozen=True)
class Running:
    """A gateway that runs, and the port it listens on."""

    gateway: Gateway
    port: int

    @property
    def sidecar(self) -> Sidecar:
        return self.gateway.sidecar

    async def sidecar_works(self, count: int) -> None:
        """Return when the sidecar has so many sequences."""
        with anyio.fail_after(PATIENCE_S):
            while (queue := (await self.sidecar.stats()).queue).running + queue.waiting < count:
                pass

    async def sidecar_is_idle(self) -> None:
        """Return when the sidecar works on nothing."""
        with anyio.fail_after(PATIENCE_S):
            while (queue := (await self.sidecar.stats()).queue).running or queue.waiting:
                pass


@asynccontextmanager
async def running(
    settings: Settings = FAKE, *, clock_ns: Callable[[], int] = time.monotonic_ns, **changes: Any
) -> AsyncIterator[Running]:
    """A gateway in this event loop, whose models are loaded."""
    settings = replace(settings, **changes)
    gateway = Gateway(settings, clock_ns)
    with listening(settings.listen) as (listener, name):
        server = http_server(gateway, host_of(settings.listen))
        async with anyio.create_task_group() as tasks:
            loaded, ended = anyio.Event(), anyio.Event()

            async def serve() -> None:
                await server.serve([listener])
                ended.set()

            tasks.start_soon(keep_sidecar, gateway, loaded.set)
            tasks.start_soon(serve)
            with anyio.fail_after(PATIENCE_S):
                await loaded.wait()
            yield Running(gateway, int(name.rpartition(":")[2]))
            gateway.stop_answers()
            server.should_exit = server.force_exit = True
            # Not cancelled, because uvicorn would leave its socket with the event loop.
            await ended.wait()
            tasks.cancel_scope.cancel()


@dataclass
class Response:
    """The status, the headers by lower-case name, and the body, of which chunks are put together."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_complete: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        """The text behind ``data:`` in each event."""
        lines = self.body.decode().split("\n\n")
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]

    @property
    def chunks(self) -> list[Any]:
        return [json.loads(event) for event in self.events if event != "[DONE]"]

    @property
    def text(self) -> str:
        """The text in chunks of ``chat/completions``."""
        return "".join(
            choice["delta"].get("content") or "" for chunk in self.chunks for choice in chunk.get("choices", ())
        )


class Request:
    """One request on a connection of its own."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._received = b""

    @property
    def received(self) -> bytes:
        return self._received

    async def leave(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def until(self, mark: bytes, times: int = 1) -> None:
        """Read until ``mark`` has come, so many times."""
        with anyio.fail_after(PATIENCE_S):
            while self._received.count(mark) < times:
                self._received += await self._stream.receive()

    async def response(self) -> Response:
        """Read to the end of the connection."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                try:
                    self._received += await self._stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return parsed(self._received)


def parsed(data: bytes) -> Response:
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    is_complete = True
    if headers.get("transfer-encoding") == "chunked":
        body, is_complete = _joined(body)
    return Response(int(status.split()[1]), headers, body, is_complete)


def _joined(body: bytes) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return b"".join(parts), True
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts), False


@asynccontextmanager
async def asking(
    port: int, path: str, body: Any = None, *, method: str | None = None, headers: Sequence[str] = ()
) -> AsyncIterator[Request]:
    """A request on its way; leaving the block closes its connection."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1"]
    given = {header.partition(":")[0].lower() for header in headers}
    usual = {"host": f"Host: 127.0.0.1:{port}", "content-length": f"Content-Length: {len(data)}"}
    lines += [line for name, line in usual.items() if name not in given]
    lines += [*headers, "Connection: close", "", ""]
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send("\r\n".join(lines).encode() + data)
        yield Request(stream)


async def ask(port: int, path: str, body: Any = None, **options: Any) -> Response:
    """A request and its whole response."""
    async with asking(port, path, body, **options) as request:
        return await request.response()


def chat(model: str, **more: Any) -> dict[str, Any]:
    """The body of a streamed chat."""
    return {"model": model, "messages": HELLO, "stream": True, **more}

"""The gateway's application over a sidecar in this process: its client, its front and the fake engine, without sockets.

A test has answers wait behind any of their tokens (``holding``), lets a fault strike, and lets them go on.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from math import inf
from types import TracebackType
from typing import Any, Self, cast

import anyio
import pytest
from anyio.abc import Process
from starlette.types import ASGIApp, Message

from mlx_sidecar.engine.core.batch import Event, Work
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.fake import fake_engine
from mlx_sidecar.engine.fake.fake_engine import FakeBatch
from mlx_sidecar.engine.fake.fake_script import Script
from mlx_sidecar_client import Sidecar, Stream
from mlx_sidecar_client.connection import Connection
from mlx_sidecar_client.sidecar import DEFAULT_WINDOW
from mlx_sidecar_gateway.app import access_of, application
from mlx_sidecar_gateway.core.exchange import PARTS
from mlx_sidecar_gateway.core.gateway import Gateway
from mlx_sidecar_gateway.settings import Settings
from tests.gateway.support import PATIENCE_S
from tests.support.pair import Server, config_of

# The sidecar.


class ShiftedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward."""

    shift_s = 0.0

    def time(self) -> float:
        return super().time() + self.shift_s

    def put_forward(self, seconds: float) -> None:
        """Put the clock forward, from any thread."""
        self.call_soon_threadsafe(self._shift, seconds)

    def _shift(self, seconds: float) -> None:
        self.shift_s += seconds


class FrontThread(Server):
    """The front's thread, whose clock can be put forward."""

    def __init__(self, *options: str) -> None:
        stdin, self.to_front = os.pipe()
        self.from_front, stdout = socket.socketpair()
        # On a busy machine an engine that shares its interpreter with the test may seem to hang.
        patient = ("--stall-after-s", "600")
        super().__init__(config_of(["serve", "--engine", "fake", *patient, *options]), stdin, stdout)
        self._loop.close()
        self._loop = self.clock = ShiftedLoop()


class FrontProcess:
    """A front's thread as the Python client holds a process."""

    def __init__(self, *options: str) -> None:
        self.server = FrontThread(*options)
        self.returncode: int | None = None
        self.pid = os.getpid()
        self.stdin, self.stdout, self.stderr = self, self, _Silence()
        self.server.from_front.setblocking(False)
        self.server.start()

    async def send(self, data: bytes) -> None:
        os.write(self.server.to_front, data)

    async def receive(self, _: int = 0) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self.server.from_front, 1 << 16)
        if not data:
            raise anyio.EndOfStream
        return data

    def kill(self) -> None:
        """Cut its pipes, as its death by SIGKILL does."""
        if self.returncode is None:
            self.returncode = -signal.SIGKILL
            self.server.from_front.shutdown(socket.SHUT_RDWR)

    async def wait(self) -> int:
        await anyio.to_thread.run_sync(self.server.leave)
        if self.returncode is None:
            self.returncode = self.server.status
        return self.returncode

    async def aclose(self) -> None:
        os.close(self.server.to_front)
        self.server.from_front.close()


class _Silence:
    async def receive(self, _: int = 0) -> bytes:
        raise anyio.EndOfStream


# The engine.

_MOST_TOKENS = 100
_first_contexts = count(2000, _MOST_TOKENS)


class Gate:
    """While it is closed, the answer of a model with the context length ``context(n)`` waits behind ``n`` tokens."""

    def __init__(self) -> None:
        self.is_open = False
        self._first = next(_first_contexts)  # of its own, as models of others may be loaded still

    def context(self, tokens: int) -> int:
        assert tokens < _MOST_TOKENS
        return self._first + tokens

    def lets(self, script: Script, at: int) -> bool:
        """Whether an answer of so many tokens may go on."""
        after = script.context - self._first
        return self.is_open or not 0 <= after < _MOST_TOKENS or at < after


class _HeldBatch(FakeBatch):
    """A fake device in front of which answers wait."""

    gate: Gate

    def due_s(self, running: Iterable[Sequence], now: float) -> float:
        self._hold(now)
        return super().due_s(running, now)

    def step(self, work: list[Work], now: float) -> list[Event]:
        self._hold(now)
        return super().step(work, now)

    def _hold(self, now: float) -> None:
        for run in self._runs.values():
            if not self.gate.lets(self._script, run.at):
                run.due_s = inf
            elif run.due_s == inf:
                run.due_s = now


@contextmanager
def holding() -> Iterator[Gate]:
    """A gate for the models that are loaded in this block."""
    gate = Gate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_engine, "FakeBatch", type("HeldBatch", (_HeldBatch,), {"gate": gate}))
        yield gate


@dataclass
class Arrival:
    """Is ``there`` once an answer has ``after`` tokens, and all of them are written."""

    after: int
    there: anyio.Event = field(default_factory=anyio.Event)


ARRIVAL: ContextVar[Arrival | None] = ContextVar("ARRIVAL", default=None)
"""The arrival of the answers of the task that sets it."""


class _WatchedStream:
    """A stream that tells of ``arrival``."""

    def __init__(self, stream: Stream[Any], arrival: Arrival) -> None:
        self._stream, self._arrival = stream, arrival
        self._tokens = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def take_plain(self, _pass_on: object = None) -> list[dict[str, Any]]:
        # A gateway that asks for more has written what came before.
        if self._tokens >= self._arrival.after:
            self._arrival.there.set()
        deltas = await self._stream.take_plain()
        self._tokens += sum(len(delta["tokens"]) for delta in deltas)
        return deltas

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, *error: *tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
    ) -> None:
        await self._stream.__aexit__(*error)


class MemorySidecar(Sidecar):
    """The Python client with fronts in this process for its processes."""

    def __init__(self, *options: str, window: int = DEFAULT_WINDOW) -> None:
        super().__init__([], {"window": window})
        self._options = options
        self.processes: list[FrontProcess] = []

    @property
    def process(self) -> FrontProcess:
        """The one that was started last."""
        return self.processes[-1]

    def kill_engine(self) -> None:
        """End the engine by SIGKILL."""
        self.process.server.engine.process.send_signal(signal.SIGKILL)

    def generate(self, model: str, **options: Any) -> Stream[Any]:
        stream: Stream[Any] = super().generate(model, **options)
        arrival = ARRIVAL.get()
        return stream if arrival is None else cast("Stream[Any]", _WatchedStream(stream, arrival))

    async def _start(self) -> Connection:
        self.processes.append(FrontProcess(*self._options))
        return Connection(cast("Process", self.process), self._hear)

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        # The client would log it, and the front, which has the logs of this process, tell it again.
        if method != "log":
            self._notices.take(method, params)


# The gateway.


class Visit:
    """One request to the application, by a client that the test plays.

    ``spec_version`` is that of ASGI; ``has_parts``, whether the server writes parts at once. The client takes what is
    written while ``reads`` is set, and is there until ``leaves`` is. Once it ``is_gone``, writing fails.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        body: Any,
        *,
        method: str = "POST",
        headers: Iterable[tuple[str, str]] = (),
        spec_version: str = "2.3",
        has_parts: bool = False,
    ) -> None:
        self._app = app
        self._data: bytes | None = b"" if body is None else json.dumps(body).encode()
        named = [(b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers)]
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec_version},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "headers": named,
            "query_string": b"",
            "extensions": {PARTS: self} if has_parts else {},
        }
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_complete = False
        self.has_heard = anyio.Event()  # set at the first byte of the body
        self.reads = anyio.Event()
        self.reads.set()
        self.leaves = anyio.Event()
        self.is_gone = False

    async def run(self, patience_s: float | None = PATIENCE_S) -> Self:
        """Return when the application has."""
        with anyio.fail_after(patience_s):
            await self._app(self._scope, self._receive, self.send)
        return self

    async def _receive(self) -> Message:
        if self._data is not None:
            data, self._data = self._data, None
            return {"type": "http.request", "body": data, "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a part of the response."""
        assert not self.is_complete, "something behind the end"
        await self.reads.wait()
        if self.is_gone:
            raise OSError("the client has left")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self.body += message.get("body", b"")
        self.is_complete = not message.get("more_body", False)
        self.has_heard.set()
        if self.is_complete:
            self.leaves.set()

    @property
    def are_taken(self) -> bool:
        """Whether another part may be written at once."""
        return self.reads.is_set() and not (self.is_gone or self.is_complete)

    def write(self, data: bytes) -> None:
        """Take a part that is written at once."""
        assert self.are_taken
        self.body += data
        self.has_heard.set()


@dataclass(frozen=True)
class InMemory:
    """A gateway over a sidecar in memory, and its application."""

    gateway: Gateway
    sidecar: MemorySidecar
    app: ASGIApp

    def visit(self, path: str, body: Any, **options: Any) -> Visit:
        return Visit(self.app, path, body, **options)

    async def sidecar_is_idle(self) -> None:
        """Return when the sidecar works on nothing."""
        with anyio.fail_after(PATIENCE_S):
            while (queue := (await self.sidecar.stats()).queue).running or queue.waiting:
                pass


@asynccontextmanager
async def in_memory(*options: str, window: int = DEFAULT_WINDOW, **settings: Any) -> AsyncIterator[InMemory]:
    """A gateway with these settings over a sidecar with these options."""
    async with MemorySidecar(*options, window=window) as sidecar:
        yield gateway_over(sidecar, **settings)


def gateway_over(sidecar: MemorySidecar, **settings: Any) -> InMemory:
    """A gateway with these settings over ``sidecar``."""
    gateway = Gateway(Settings(**settings))
    gateway.sidecar, gateway.is_loaded = sidecar, True
    return InMemory(gateway, sidecar, application(gateway, access_of(gateway, None)))

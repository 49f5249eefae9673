"""A puppet for an engine: it says what a test lets it say, notes what a test notes, and dies when it is told to."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mlx_sidecar.config import Config
from mlx_sidecar.front.supervision import supervisor as supervisor_module
from mlx_sidecar.front.supervision.engine_process import EngineProcess
from mlx_sidecar.front.supervision.supervisor import Supervisor
from mlx_sidecar.link.codec import Decoder, encode
from mlx_sidecar.link.heartbeat_page import HeartbeatPage
from mlx_sidecar.link.messages import Dropped, Finished, Ready, ToEngine, ToFront, Tokens
from mlx_sidecar_protocol.errors import RpcError
from mlx_sidecar_protocol.notifications import EngineState
from tests.support.link import feed

READY = Ready(1, "fake", "fake", {}, "fast", "scripted", 0, 1024, 32)
PATIENCE_S = 60.0  # a test that waits longer has failed; no test measures it


class Puppet:
    """The process does nothing. ``page`` is the engine's side of the page."""

    def __init__(self) -> None:
        self._link, ours = socket.socketpair()
        self._link.setblocking(False)
        self._decoder: Decoder[ToEngine] = Decoder(ToEngine)  # type: ignore[arg-type]  # a union is not a type[T]
        self.process = subprocess.Popen([sys.executable, "-Sc", "input()"], stdin=subprocess.PIPE)
        self.page = HeartbeatPage.create()
        self.engine = EngineProcess(self.process, ours, self.page)

    def say(self, *messages: ToFront) -> None:
        self.say_bytes(b"".join(map(encode, messages)))

    def say_bytes(self, data: bytes) -> None:
        self._link.sendall(data)

    async def hear(self) -> list[ToEngine]:
        """The messages sent to it since; waits for the first."""
        messages: list[ToEngine] = []
        while not messages:
            data = await asyncio.get_running_loop().sock_recv(self._link, 1 << 16)
            assert data, "the link was closed"
            messages = feed(self._decoder, data)
        return messages

    def die(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait()
        self._link.close()

    def close(self) -> None:
        self.die()
        assert self.process.stdin
        self.process.stdin.close()


class Listener:
    """A client that writes down what it is told. ``learns`` is whether deaths tell it their cause."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.learns = False
        self.supervisor: Supervisor

    def on_tokens(self, message: Tokens) -> None:
        self.heard.append(message)

    def on_finished(self, message: Finished) -> None:
        raise ZeroDivisionError("a bug in a handler")

    def on_dropped(self, message: Dropped) -> None:
        self.heard.append(message)

    def on_evicted(self, model: str) -> None:
        self.heard.append(model)

    def on_engine_ready(self) -> None:
        self.heard.append("ready")
        self.supervisor.restored()

    def on_engine_lost(self, running: frozenset[int], because: str, *, forced: bool) -> bool:
        self.heard.append((set(running), because))
        return self.learns

    def on_given_up(self, error: RpcError) -> None:
        self.heard.append(error)


class Stage:
    """A supervisor, its client, the states it went through and the puppets it was given, the last of them on stage."""

    def __init__(self, stall_after_s: float) -> None:
        self.states: list[tuple[EngineState, str | None]] = []
        self.client = Listener()
        self.supervisor = Supervisor(Config(engine="fake", stall_after_s=stall_after_s), self.client, self._on_state)
        self.client.supervisor = self.supervisor
        self.puppets: list[Puppet] = []
        self._changed = asyncio.Event()

    @property
    def puppet(self) -> Puppet:
        return self.puppets[-1]

    def spawn(self, config: Config) -> EngineProcess:
        self.puppets.append(Puppet())
        self._changed.set()
        return self.puppet.engine

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until that holds; looked at whenever the state changes or an engine is started."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def until_state(self, state: EngineState) -> None:
        await self.until(lambda: self.supervisor.state == state)

    async def until_engine(self, number: int) -> Puppet:
        """Engine ``number``, from 1, once it is there."""
        await self.until(lambda: len(self.puppets) >= number)
        return self.puppets[number - 1]

    def _on_state(self, state: EngineState, because: str | None) -> None:
        self.states.append((state, because))
        self._changed.set()


@asynccontextmanager
async def stage(monkeypatch: pytest.MonkeyPatch, stall_after_s: float = 1000.0) -> AsyncIterator[Stage]:
    """A supervisor whose engines are puppets; the first is there and has not said Ready."""
    made = Stage(stall_after_s)
    monkeypatch.setattr(supervisor_module, "spawn", made.spawn)
    await made.supervisor.start(made.spawn(Config()))
    try:
        yield made
    finally:
        await made.supervisor.stop()
        for puppet in made.puppets:
            puppet.close()


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE_S))

"""The front's hold on the engine, with a puppet for an engine: it says what a test lets it say, and then dies."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlx_sidecar.config import Config
from mlx_sidecar.engine.faults import fault_of
from mlx_sidecar.link import supervisor as supervisor_module
from mlx_sidecar.link.codec import Decoder, encode
from mlx_sidecar.link.messages import Fault, Finished, Load, Ready, Refused, ToFront, Tokens
from mlx_sidecar.link.process import EngineProcess, spawn
from mlx_sidecar.link.supervisor import Supervisor, error_from
from mlx_sidecar_protocol import errors
from mlx_sidecar_protocol.error_data import DETAILS
from mlx_sidecar_protocol.notifications import EngineState

READY = Ready(1, "fake", "fake", {}, "fast", "scripted", 0)
REFUSAL = Fault("unsupported_parameter", "numerics cannot be honoured: no", {"name": "numerics", "because": "no"})
SAMPLES: list[errors.RpcError] = [
    errors.InvalidParams([{"loc": ["messages", 0], "msg": "too odd", "type": "value_error"}]),
    errors.InternalError(),
    errors.ModelNotFound("m"),
    errors.ModelLoadFailed("m", "damaged"),
    errors.ModelUnsupported("m", "unknown"),
    errors.ModelNotLoaded("m"),
    errors.ModelInUse("m", 3),
    errors.ContextTooLong(have=9, limit=8),
    errors.UnsupportedParameter("adapter", "no"),
    errors.Overloaded(queue=2, limit=1, retry_after_s=0.5),
    errors.OutOfMemory(need_bytes=2**40, have_bytes=0),
]


class Puppet:
    """An engine process that does nothing; ``say`` speaks for it, ``die`` ends it."""

    def __init__(self) -> None:
        self._link, ours = socket.socketpair()
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.engine = EngineProcess(self.process, ours)

    def say(self, *messages: ToFront) -> None:
        self._link.sendall(b"".join(map(encode, messages)))

    def die(self) -> None:
        self.process.kill()
        self.process.wait()
        self._link.close()

    def close(self) -> None:
        self.die()
        assert self.process.stdin
        self.process.stdin.close()


class Sink:
    """Hears of sequences."""

    def __init__(self) -> None:
        self.lost: list[errors.RpcError] = []

    def on_tokens(self, message: Tokens) -> None: ...
    def on_finished(self, message: Finished) -> None: ...
    def on_engine_lost(self, error: errors.RpcError) -> None:
        self.lost.append(error)


class Bench:
    """A supervisor, its sink, and the states it went through."""

    def __init__(self) -> None:
        self.states: list[tuple[EngineState, str | None]] = []
        self.sink = Sink()
        self.supervisor = Supervisor(Config(engine="fake"), self.sink, self._on_state)
        self._changed = asyncio.Event()

    def _on_state(self, state: EngineState, because: str | None) -> None:
        self.states.append((state, because))
        self._changed.set()

    async def until(self, state: EngineState) -> None:
        while self.supervisor.state != state:
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def bench(puppet: Puppet) -> AsyncIterator[Bench]:
    made = Bench()
    await made.supervisor.start(puppet.engine)
    try:
        yield made
    finally:
        await made.supervisor.stop()
        puppet.close()


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def load(supervisor: Supervisor) -> Load:
    return Load(supervisor.next_op(), "m", "fake")


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: error.kind)
def test_an_error_arrives_at_the_host_as_it_left_the_engine(error: errors.RpcError) -> None:
    arrived = error_from(fault_of(error))
    assert type(arrived) is type(error)
    assert (arrived.code, arrived.message) == (error.code, error.message)
    details = {name: value for name, value in arrived.data.items() if name not in ("kind", "retryable")}
    DETAILS[type(error)].model_validate(details)


def test_an_engine_that_dies_before_it_is_ready_answers_what_was_asked_of_it() -> None:
    async def test() -> None:
        puppet = Puppet()
        async with bench(puppet) as made:
            asked = asyncio.create_task(made.supervisor.load(load(made.supervisor)))
            await asyncio.sleep(0)
            puppet.die()
            with pytest.raises(errors.EngineLost, match="killed by signal 9"):
                await asked
            assert len(made.sink.lost) == 1
            with pytest.raises(errors.EngineLost):  # during the back-off nothing is kept for the next engine
                await made.supervisor.load(load(made.supervisor))

    on_loop(test)


def test_an_engine_that_refuses_its_configuration_is_not_tried_again_and_every_request_hears_why() -> None:
    async def test() -> None:
        puppet = Puppet()
        async with bench(puppet) as made:
            puppet.say(Refused(0, REFUSAL))
            puppet.die()
            await made.until("failed")
            heard = []
            for _ in range(2):
                with pytest.raises(errors.UnsupportedParameter, match="numerics") as caught:
                    await made.supervisor.stats()
                heard.append(caught.value)
            assert heard[0] is not heard[1]  # a shared one would keep the frames of every request that met it
            assert made.supervisor.restarts == 0

    on_loop(test)


def test_an_engine_that_cannot_be_spawned_is_tried_again_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError("no more processes"), OSError("no more processes")]

    def spawn_at_last(config: Config) -> EngineProcess:
        if failures:
            raise failures.pop()
        return spawn(config)

    async def test() -> None:
        puppet = Puppet()
        async with bench(puppet) as made:
            puppet.die()
            await made.until("ready")
            assert made.supervisor.restarts == 3
            assert [state for state, _ in made.states] == ["lost", "starting"] * 3 + ["ready"]
            assert "no more processes" in str(made.states[2][1])
            assert made.supervisor.reason is None

    monkeypatch.setattr(supervisor_module, "spawn", spawn_at_last)
    monkeypatch.setattr(supervisor_module, "_FIRST_BACKOFF_S", 0.001)
    on_loop(test)


def test_the_answer_to_a_call_that_was_cancelled_is_nobodys() -> None:
    async def test() -> None:
        puppet = Puppet()
        async with bench(puppet) as made:
            asked = asyncio.create_task(made.supervisor.load(load(made.supervisor)))
            await asyncio.sleep(0)
            asked.cancel()
            puppet.say(Refused(1, fault_of(errors.ModelNotFound("m"))), READY)
            await made.until("ready")
            assert asked.cancelled()

    on_loop(test)


def test_the_working_directory_is_not_searched_for_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("argparse", "hashlib", "platform"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the module that was meant')")
    monkeypatch.chdir(tmp_path)
    engine = spawn(Config(engine="fake"))
    try:
        decoder: Decoder[Ready] = Decoder(Ready)
        messages: list[Ready] = []
        while not messages:
            data = engine.link.recv(1 << 16)
            assert data, engine.exit_reason
            messages = decoder.feed(data)
    finally:
        engine.link.close()
        engine.kill()
    assert messages[0].backend == "fake"

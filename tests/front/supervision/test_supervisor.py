"""The supervisor answers messages, deaths and hangs of the engine."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from mlx_sidecar.config import Config
from mlx_sidecar.front.supervision import engine_connection as attached
from mlx_sidecar.front.supervision import engine_process as process
from mlx_sidecar.front.supervision import restart_policy as restarts
from mlx_sidecar.front.supervision import supervisor as supervisor_module
from mlx_sidecar.front.supervision.engine_process import EngineProcess
from mlx_sidecar.front.supervision.pending_calls import LoadLost
from mlx_sidecar.front.supervision.supervisor import Supervisor
from mlx_sidecar.link.cache_messages import CacheCleared, ClearCache, ExportCache, ImportCache, QueryCache
from mlx_sidecar.link.control_messages import (
    EngineStats,
    Load,
    Loaded,
    ModelCard,
    Models,
    QueryModels,
    QueryStats,
    Unload,
    Unloaded,
)
from mlx_sidecar.link.faults import error_from, fault_of
from mlx_sidecar.link.messages import (
    Cancel,
    Dropped,
    Evicted,
    Fault,
    Finished,
    Generate,
    Refused,
    Sampling,
    Submit,
    Timing,
    ToFront,
    Tokens,
)
from mlx_sidecar_protocol import errors
from mlx_sidecar_protocol.error_data import DETAILS
from tests.support.puppet import READY, Puppet, Stage, on_loop, stage

CARD = ModelCard("m", "ready", "fake")
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
    errors.EngineLost("its device does not compute"),
]


def load(supervisor: Supervisor) -> Load:
    return Load(supervisor.next_op(), "m", "fake")


async def asked(call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has got as far as it can without an answer."""
    task = asyncio.get_running_loop().create_task(call)
    await asyncio.sleep(0)
    return task


def takes_work(made: Stage) -> bool:
    return made.supervisor.takes_work


async def all_die(made: Stage) -> None:
    """Five engines in a row die without having done anything."""
    for number in range(1, 6):
        (await made.until_engine(number)).die()
    await made.until_state("failed")


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: error.kind)
def test_an_error_arrives_at_the_host_as_it_left_the_engine(error: errors.RpcError) -> None:
    arrived = error_from(fault_of(error))
    assert type(arrived) is type(error)
    assert (arrived.code, arrived.message) == (error.code, error.message)
    details = {name: value for name, value in arrived.data.items() if name not in ("kind", "retryable")}
    DETAILS[type(error)].model_validate(details)


def test_what_the_engine_says_of_sequences_and_models_goes_to_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            told: list[ToFront] = [Tokens(7, [1]), Dropped([7], [7], REFUSAL), Evicted("m")]
            made.puppet.say(*told, READY)
            await made.until_state("ready")
            assert made.client.heard == [*told[:2], "m", "ready"]

    on_loop(test)


def test_work_is_for_an_engine_that_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    submit = Submit(7, "m", [1], Generate(Sampling(), [], 1))

    async def test() -> None:
        async with stage(monkeypatch) as made:
            assert not takes_work(made)
            with pytest.raises(errors.EngineLost, match="being started"):
                made.supervisor.submit(submit)
            made.puppet.say(READY)
            await made.until_state("ready")
            assert takes_work(made)
            made.supervisor.submit(submit)
            assert await made.puppet.hear() == [submit]
            made.puppet.die()
            await made.until_state("lost")
            assert not takes_work(made)
            made.supervisor.post(Cancel(7))
            with pytest.raises(errors.EngineLost, match="SIGKILL"):
                made.supervisor.submit(submit)

    on_loop(test)


def test_a_message_whose_handling_fails_does_not_end_the_engine(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            made.puppet.say(Finished(7, "stop", True, Timing()), READY)
            await made.until_state("ready")
            assert made.supervisor.takes_work

    on_loop(test)
    assert "a bug in a handler" in caplog.text


class Panic(BaseException):
    """A panic of a Rust library, as Python sees it."""


def panic(*_: object, **__: object) -> Any:
    raise Panic("test")


def test_what_a_client_raises_of_any_kind_does_not_look_like_the_end_of_the_engine(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            for name in ("on_tokens", "on_finished", "on_dropped", "on_evicted"):
                monkeypatch.setattr(made.client, name, panic)
            told: list[ToFront] = [Tokens(7, [1]), Finished(7, "stop", True, Timing()), Dropped([7], [7], REFUSAL)]
            made.puppet.say(*told, Evicted("m"), READY)
            await made.until_state("ready")
            figures = await asked(made.supervisor.stats())
            await made.puppet.hear()
            made.puppet.say(EngineStats(1, {}, {}, {}, None))
            await figures
            assert len(made.puppets) == 1

    on_loop(test)
    assert caplog.text.count("could not be taken in") == 4


@pytest.mark.parametrize("kind", [Panic, MemoryError, ValueError, RuntimeError, OSError])
def test_an_engine_that_cannot_be_spawned_for_whatever_reason_is_tried_again_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    monkeypatch.setattr(restarts, "DELAYS_S", (0.0, 0.0))

    def spawn(_: Config) -> EngineProcess:
        raise kind("test")

    async def test() -> None:
        async with stage(monkeypatch) as made:
            monkeypatch.setattr(supervisor_module, "spawn", spawn)
            made.puppet.die()
            await made.until_state("failed")
            assert [state for state, _ in made.states].count("lost") == 3
            with pytest.raises(errors.EngineLost, match="cannot be started"):
                made.supervisor.wake()
            monkeypatch.setattr(supervisor_module, "spawn", made.spawn)
            made.supervisor.wake(urgent=True)
            (await made.until_engine(2)).say(READY)
            await made.until_state("ready")

    on_loop(test)


@pytest.mark.parametrize("method", ["attach", "wait_ended"])
def test_an_engine_that_cannot_be_attached_or_awaited_leads_to_the_next_one_or_is_given_up(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(restarts, "DELAYS_S", (0.0,))

    async def test() -> None:
        async with stage(monkeypatch) as made:
            call = await asked(made.supervisor.load(load(made.supervisor)))
            with monkeypatch.context() as broken:
                broken.setattr(attached.EngineConnection, method, panic)
                made.puppet.die()
                await made.until_state("failed")
            with pytest.raises(errors.EngineLost, match="cannot be started"):
                await call
            next_number = len(made.puppets) + 1
            made.supervisor.wake(urgent=True)
            (await made.until_engine(next_number)).say(READY)
            await made.until_state("ready")

    on_loop(test)


def test_a_host_that_cannot_be_told_of_states_keeps_no_engine_from_coming_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            monkeypatch.setattr(made.client, "on_engine_lost", panic)
            monkeypatch.setattr(made.client, "on_given_up", panic)
            tell = made.supervisor._status._on_state

            def told(state: Any, because: str | None) -> None:
                tell(state, because)
                panic()

            monkeypatch.setattr(made.supervisor._status, "_on_state", told)
            made.puppet.die()
            (await made.until_engine(2)).say(READY)
            await made.until_state("ready")
            assert [state for state, _ in made.states] == ["lost", "starting", "ready"]

    on_loop(test)


def test_what_cannot_be_said_to_the_engine_fails_its_own_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            export = ExportCache(made.supervisor.next_op(), "m", [2**70], "/x")
            with pytest.raises(OverflowError):
                await made.supervisor.move_cache(export)
            made.puppet.say(READY)
            await made.until_state("ready")
            with pytest.raises(OverflowError):
                made.supervisor.submit(Submit(7, "m", [2**70], Generate(Sampling(), [], 1)))
            made.puppet.die()  # and the next engine is not asked what the first could not be
            (await made.until_engine(2)).say(READY)
            await made.until_state("ready")

    on_loop(test)


def frame(**members: Any) -> bytes:
    body = msgspec.msgpack.encode(members)
    return struct.pack("<I", len(body)) + body


def test_an_answer_that_cannot_be_read_fails_its_own_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            finished: list[Finished] = []
            monkeypatch.setattr(made.client, "on_finished", finished.append)
            call = await asked(made.supervisor.load(load(made.supervisor)))
            await made.puppet.hear()
            made.puppet.say_bytes(frame(type="Progress", op=1, stage=True))
            made.puppet.say_bytes(frame(type="Tokens", seq=9, tokens=[True]))
            made.puppet.say_bytes(frame(type="Loaded", op=1, card={"context_length": True}))
            made.puppet.say(READY)
            await made.until_state("ready")
            with pytest.raises(errors.InternalError):
                await call
            assert [(end.seq, end.reason, end.fault and end.fault.kind) for end in finished] == [
                (9, "error", "internal_error")
            ]
            assert await made.puppet.hear() == [Cancel(9)]
            assert len(made.puppets) == 1

    on_loop(test)


def test_calls_outlive_the_engine_and_the_next_one_answers_them_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            loading = await asked(made.supervisor.load(load(made.supervisor)))
            unloading = await asked(made.supervisor.unload(Unload(made.supervisor.next_op(), "n")))
            listing = await asked(made.supervisor.models())
            await made.puppet.hear()
            made.puppet.die()
            await made.until_state("lost")
            late = await asked(made.supervisor.models())
            puppet = await made.until_engine(2)
            again: list[Any] = []
            while len(again) < 4:
                again += await puppet.hear()
            assert again == [Load(1, "m", "fake"), Unload(2, "n"), QueryModels(3), QueryModels(4)]
            puppet.say(Models(4, []), Models(3, [CARD]), Unloaded(2, 5), Loaded(1, CARD, 0.5))
            assert await loading == Loaded(1, CARD, 0.5)
            assert await unloading == Unloaded(2, 5)
            assert await listing == Models(3, [CARD])
            assert await late == Models(4, [])

    on_loop(test)


def test_figures_of_an_engine_that_is_gone_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            figures = await asked(made.supervisor.stats())
            assert await made.puppet.hear() == [QueryStats(1)]
            made.puppet.die()
            with pytest.raises(errors.EngineLost, match="killed by signal 9"):
                await figures

    on_loop(test)


def test_what_was_asked_of_the_cache_of_an_engine_that_is_gone_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            export = ExportCache(made.supervisor.next_op(), "m", [1], "/x")
            taken = ImportCache(made.supervisor.next_op(), "m", "/x")
            calls = [await asked(made.supervisor.move_cache(message)) for message in (export, taken)]
            calls.append(await asked(made.supervisor.cache()))
            heard: list[Any] = []
            while len(heard) < 3:
                heard += await made.puppet.hear()
            assert heard == [export, taken, QueryCache(3)]
            made.puppet.die()
            for call in calls:
                with pytest.raises(errors.EngineLost, match="killed by signal 9"):
                    await call

    on_loop(test)


def test_a_cache_is_cleared_by_the_next_engine_if_the_first_is_lost_before_it_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            message = ClearCache(made.supervisor.next_op(), "m")
            clearing = await asked(made.supervisor.clear_cache(message))
            assert await made.puppet.hear() == [message]
            made.puppet.die()
            puppet = await made.until_engine(2)
            assert await puppet.hear() == [message]
            puppet.say(CacheCleared(message.op, 5, 7))
            assert await clearing == CacheCleared(message.op, 5, 7)

    on_loop(test)


@pytest.mark.parametrize(("number", "deaths"), [(signal.SIGABRT, 2), (signal.SIGKILL, 5)])
def test_a_load_that_ran_at_several_deaths_fails_and_does_not_count_as_a_crash_loop(
    number: signal.Signals, deaths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"killed by signal {int(number)} ({number.name})"

    async def test() -> None:
        async with stage(monkeypatch) as made:
            bad = await asked(made.supervisor.load(load(made.supervisor)))
            good = await asked(made.supervisor.load(load(made.supervisor)))
            for engine in range(1, deaths + 1):
                puppet = await made.until_engine(engine)
                puppet.page.begin("load", [1], 10.0)
                puppet.die(number)
            with pytest.raises(errors.EngineLost, match=f"lost {deaths} times while loading it: killed by"):
                await bad
            puppet = await made.until_engine(deaths + 1)
            assert await puppet.hear() == [Load(2, "m", "fake")]
            assert made.client.heard == [(set(), words)] * deaths
            puppet.say(Loaded(2, CARD, 0.5))
            assert await good == Loaded(2, CARD, 0.5)

    on_loop(test)


def test_a_load_for_which_the_kernel_kills_for_want_of_memory_is_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = 0
    monkeypatch.setattr(process, "oom_kills", lambda: kills)

    async def test() -> None:
        nonlocal kills
        async with stage(monkeypatch) as made:
            bad = await asked(made.supervisor.load(load(made.supervisor)))
            for engine in (1, 2):
                puppet = await made.until_engine(engine)
                puppet.page.begin("load", [1], 10.0)
                kills += 1
                puppet.die(signal.SIGKILL)
            with pytest.raises(LoadLost, match=r"lost 2 times while loading it: .* for want of memory"):
                await bad

    on_loop(test)


@pytest.mark.parametrize("kind", ["step", "message"])
def test_the_client_hears_what_the_device_was_working_on(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            made.puppet.page.begin(kind, [3, 5], 10.0)
            assert made.supervisor.page.ids == (3, 5)
            made.puppet.die()
            await made.until_engine(2)
            assert made.client.heard == [({3, 5}, "killed by signal 9 (SIGKILL)")]
            assert not made.supervisor.page.ids

    on_loop(test)


def test_the_answer_to_a_call_that_was_cancelled_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            call = await asked(made.supervisor.load(load(made.supervisor)))
            call.cancel()
            made.puppet.say(Refused(1, fault_of(errors.ModelNotFound("m"))), READY)
            await made.until_state("ready")
            assert call.cancelled()

    on_loop(test)


def test_an_engine_that_refuses_its_configuration_is_not_tried_again_and_every_request_hears_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            waiting = await asked(made.supervisor.load(load(made.supervisor)))
            made.puppet.say(Refused(0, REFUSAL))
            made.puppet.die()
            await made.until_state("failed")
            calls = [waiting, made.supervisor.load(load(made.supervisor), urgent=True), made.supervisor.stats()]
            heard = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in heard} == {errors.UnsupportedParameter}
            assert len(set(map(id, heard))) == 3  # a shared one would keep the frames of every request that met it
            assert [type(told) for told in made.client.heard] == [errors.UnsupportedParameter]
            assert made.supervisor.restarts == 0

    on_loop(test)


def test_an_engine_whose_device_does_not_compute_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            made.puppet.say(Refused(0, fault_of(errors.EngineLost("cpu cannot multiply"))))
            (await made.until_engine(2)).say(READY)
            await made.until_state("ready")
            assert made.client.heard == [(set(), "cpu cannot multiply"), "ready"]

    on_loop(test)


def test_engines_that_die_without_having_done_anything_are_given_up_and_everybody_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            waiting = await asked(made.supervisor.models())
            await all_die(made)
            because = r"5 times in a row, last: killed by signal 9 \(SIGKILL\); a load tries again, and so does any"
            for call in (waiting, made.supervisor.models(), made.supervisor.stats()):
                with pytest.raises(errors.EngineLost, match=because):
                    await call
            assert len(made.puppets) == 5
            assert isinstance(made.client.heard[-1], errors.EngineLost)
            assert made.states[-1] == ("failed", made.supervisor.reason)

    on_loop(test)


def test_a_load_wakes_what_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            await all_die(made)
            waiting = await asked(made.supervisor.load(load(made.supervisor), urgent=True))
            also = await asked(made.supervisor.models())  # an engine is being started: this one waits for it
            puppet = await made.until_engine(6)
            puppet.say(READY, Loaded(1, CARD, 0.5), Models(2, [CARD]))
            assert await waiting == Loaded(1, CARD, 0.5)
            assert await also == Models(2, [CARD])
            assert (made.supervisor.state, made.supervisor.restarts, made.supervisor.reason) == ("ready", 5, None)

    on_loop(test)


def test_time_wakes_what_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            await all_die(made)
            monkeypatch.setattr(restarts, "REST_S", 0.0)
            waiting = await asked(made.supervisor.models())
            (await made.until_engine(6)).die()  # a second chance is one more start
            with pytest.raises(errors.EngineLost, match="6 times in a row"):
                await waiting

    on_loop(test)


@pytest.mark.parametrize("fruit", [Tokens(7, [1]), Loaded(1, CARD, 0.5)], ids=["token", "load"])
def test_engines_that_get_something_done_may_die_often(fruit: ToFront, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            for number in range(1, 8):
                puppet = await made.until_engine(number)
                puppet.say(fruit)
                puppet.die()
            await made.until_engine(8)

    on_loop(test)


def test_deaths_from_which_the_client_learns_are_no_crash_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            made.client.learns = True
            for number in range(1, 8):
                (await made.until_engine(number)).die()
            await made.until_engine(8)

    on_loop(test)


def test_an_engine_that_cannot_be_spawned_is_tried_again_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError("no more processes"), OSError("no more processes")]

    async def test() -> None:
        async with stage(monkeypatch) as made:

            def spawn_at_last(config: Config) -> EngineProcess:
                if failures:
                    raise failures.pop()
                return made.spawn(config)

            monkeypatch.setattr(supervisor_module, "spawn", spawn_at_last)
            made.puppet.die()
            (await made.until_engine(2)).say(READY)
            await made.until_state("ready")
            assert made.supervisor.restarts == 3
            assert [state for state, _ in made.states] == ["lost", "starting"] * 3 + ["ready"]
            assert "no more processes" in str(made.states[2][1])
            assert made.supervisor.reason is None

    on_loop(test)


def test_a_stopped_engine_is_noticed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch, stall_after_s=0.1) as made:
            made.puppet.say(READY)
            await made.until_state("ready")
            os.kill(made.puppet.process.pid, signal.SIGSTOP)
            listing = await asked(made.supervisor.models())
            puppet = await made.until_engine(2)
            assert made.client.heard[-1] == (set(), "it has taken no message for 0.1 s")
            puppet.say(Models(1, []))
            assert await listing == Models(1, [])

    on_loop(test)


def test_a_device_operation_that_outlasts_its_bound_is_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch, stall_after_s=0.1) as made:
            made.puppet.say(READY)
            await made.until_state("ready")
            made.puppet.page.begin("step", [3], 0.2)
            await made.until_engine(2)
            assert made.client.heard[-1] == ({3}, "a device operation has outlasted its bound of 0.2 s")

    on_loop(test)


def test_engines_that_never_get_ready_are_given_up_as_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached, "START_BOUND_S", 0.05)

    async def test() -> None:
        async with stage(monkeypatch, stall_after_s=0.1) as made:
            with pytest.raises(errors.EngineStalled, match=r"it has not become ready within 0\.05 s"):
                await made.supervisor.models()
            assert isinstance(made.client.heard[-1], errors.EngineStalled)

    on_loop(test)


def test_a_process_that_is_gone_is_a_death_although_its_link_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch, stall_after_s=0.1) as made:
            made.puppet.process.kill()
            await made.until_engine(2)
            assert made.client.heard == [(set(), "killed by signal 9 (SIGKILL)")]

    on_loop(test)


@pytest.mark.parametrize("said", [struct.pack("<I", 2**30 + 1), struct.pack("<I", 3) + b"abc"], ids=["size", "body"])
def test_an_engine_that_says_what_cannot_be_read_is_ended(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            made.puppet.say_bytes(said)
            await made.until_engine(2)
            assert made.client.heard[0][1].startswith("it said what cannot be read: ")
            assert made.puppets[0].process.wait() == -signal.SIGKILL

    on_loop(test)


class Undying:
    """A process that has been killed and does not end, as one that is stuck in the system."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid
        self.returncode = None
        self.ends = False

    def poll(self) -> int | None:
        return self._process.poll() if self.ends else None

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        raise AssertionError("this would block the loop")


def never_ending(puppet: Puppet) -> Undying:
    """``puppet``, as far as the supervisor can see."""
    process = Undying(puppet.process)
    object.__setattr__(puppet.engine, "process", process)
    return process


def test_the_loop_turns_while_an_engine_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            process = never_ending(made.puppet)
            made.puppet.die()
            for _ in range(1000):
                await asyncio.sleep(0)
            assert len(made.puppets) == 1
            process.ends = True
            await made.until_engine(2)

    on_loop(test)


def test_an_engine_that_does_not_end_is_left_behind_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached, "END_BOUND_S", 0.05)

    async def test() -> None:
        async with stage(monkeypatch) as made:
            never_ending(made.puppet)
            made.puppet.die()
            await made.until_engine(2)
            assert made.client.heard == [(set(), "it closed its link, and has not gone 0.05 s after SIGKILL")]

    on_loop(test)


def test_after_the_end_nothing_is_left_and_every_call_has_been_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stage(monkeypatch) as made:
            waiting = await asked(made.supervisor.models())
            await made.supervisor.stop()
            assert made.puppet.process.poll() == -signal.SIGKILL
            for call in (waiting, made.supervisor.models(), made.supervisor.stats()):
                with pytest.raises(errors.ShuttingDown):
                    await call
            assert made.states == [("stopped", None)]

    on_loop(test)

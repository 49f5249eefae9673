"""Streams on engines that come and go. The puppet for an engine does what a test says, and forgets all when it dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.front.api.fake_text import FakeText
from mlx_sidecar.front.output.stops import StopMatcher
from mlx_sidecar.front.streams.journal import TOKEN_BYTES, Journal
from mlx_sidecar.front.streams.poison_search import DEATHS_BY_FORCE
from mlx_sidecar.front.streams.recovery import Recovery
from mlx_sidecar.front.streams.registry import Streams
from mlx_sidecar.front.streams.task import EngineTask
from mlx_sidecar.front.streams.text_stream import TextStream
from mlx_sidecar.front.wire.mailbox import Mailbox
from mlx_sidecar.link.messages import (
    Cancel,
    Dropped,
    Fault,
    Finished,
    Generate,
    Pause,
    Priority,
    Resume,
    Sampling,
    Speculation,
    Submit,
    Timing,
    Tokens,
    Vocabulary,
)
from mlx_sidecar_protocol.errors import (
    EngineLost,
    InternalError,
    ModelInUse,
    ModelLoadFailed,
    ModelNotLoaded,
    OutOfMemory,
    PoisonRequest,
    RpcError,
)
from tests.support.parsers import ASIDE, Asides

FAKE = FakeText()
LIMIT = 8  # tokens of an answer
OOPS = Fault("internal_error", "internal error")
GONE = Fault("model_not_loaded", "it is not loaded", {"model": "m"})


def answer(seq: int) -> list[int]:
    """The tokens of an undisturbed run of stream ``seq``."""
    return [97 + (seq + i) % 26 for i in range(LIMIT)]


class Models:
    """Every model is there until the engine goes; ``restore`` waits for the test."""

    def __init__(self) -> None:
        self.resident = {"m", "n"}
        self.leaving: set[str] = set()
        self.asked: dict[str, asyncio.Future[None]] = {}

    def holds(self, name: str) -> bool:
        return name in self.resident

    def evicted(self, name: str) -> None:
        self.resident.discard(name)

    def is_leaving(self, name: str) -> bool:
        return name in self.leaving

    def engine_lost(self) -> list[str]:
        lost, self.resident = sorted(self.resident), set()
        return lost

    def vocabulary_due(self, name: str) -> bool:
        return False

    async def restore(self, name: str) -> None:
        asked = self.asked[name] = asyncio.get_running_loop().create_future()
        try:
            await asked
        finally:
            del self.asked[name]
        self.resident.add(name)


class Stage:
    """A lifeline, the engine it believes in, and the host's end of the wire."""

    def __init__(self, journal_bytes: int = 2**20) -> None:
        self.mailbox = Mailbox()
        self.streams = Streams(self.mailbox, lambda message: self.recovery.post(message))
        self.journal = Journal(journal_bytes)
        self.recovery = Recovery(self.journal, grace_s=3600.0)
        self.models = Models()
        self.recovery.attach(self, self.models)
        self.takes_work = True
        self.given_up = self.forced = False
        self.is_restored = True
        self.has: dict[int, Submit] = {}  # what the engine has
        self.told: list[Cancel | Pause | Resume] = []
        self.sent: list[Submit] = []
        self.held = ExitStack()

    # The engine.

    def wake(self, *, urgent: bool = False) -> None:
        if self.given_up:
            raise EngineLost("test")

    def restored(self) -> None:
        self.is_restored = True

    def submit(self, message: Submit | Vocabulary) -> None:
        assert isinstance(message, Submit)
        assert self.takes_work
        assert message.seq not in self.has
        self.has[message.seq] = message
        self.sent.append(message)

    def post(self, message: Cancel | Pause | Resume) -> None:
        self.told.append(message)

    def say(self, *seqs: int) -> None:
        """The engine decodes one token of each, or ends it."""
        for seq in seqs:
            submit = self.has[seq]
            done = len(submit.tokens) - 1
            if done == LIMIT:
                del self.has[seq]
                self.recovery.on_finished(Finished(seq, "length", True, Timing()))
            else:
                self.has[seq] = Submit(seq, "m", [*submit.tokens, answer(seq)[done]], Generate(Sampling(), [], LIMIT))
                self.recovery.on_tokens(Tokens(seq, [answer(seq)[done]]))

    def die(self, *running: int) -> bool:
        self.has.clear()
        self.takes_work = self.is_restored = False
        return self.recovery.on_engine_lost(frozenset(running), "test", forced=self.forced)

    def drop(self, *running: int) -> None:
        """A step with ``running`` failed; it took all that the engine has."""
        dropped = list(self.has)
        self.has.clear()
        self.recovery.on_dropped(Dropped(dropped, list(running), OOPS))

    async def revive(self, error: RpcError | None = None) -> None:
        """The next engine takes work and has loaded what it is asked to, or could not."""
        self.takes_work = True
        self.recovery.on_engine_ready()
        await self.load(error)

    async def load(self, error: RpcError | None = None) -> None:
        await settled()
        for asked in list(self.models.asked.values()):
            if error is None:
                asked.set_result(None)
            else:
                asked.set_exception(error)
        await settled()

    # The host.

    def open(
        self,
        name: str | None = "s",
        priority: Priority = "normal",
        model: str = "m",
        stop: str = "",
        speculation: Speculation | None = None,
        **options: Any,
    ) -> TextStream:
        number = self.recovery.tasks.next_number()
        goal = Generate(Sampling(), [], LIMIT, speculation=speculation)
        task = EngineTask(Submit(number, model, [1], goal, priority=priority))
        stream = TextStream(task, name, FAKE.detokenizer(), StopMatcher([stop] if stop else []), **options)
        self.held.enter_context(self.streams.hearing(stream))
        self.held.enter_context(self.recovery.carrying(task))
        return stream

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.mailbox.drain(1 << 30)]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def staged(test: Callable[[Stage], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def go() -> None:
            stage = Stage()
            with stage.held:
                await test(stage)
            assert stage.journal.held_bytes == 0

        asyncio.run(asyncio.wait_for(go(), 60))

    run.__name__ = test.__name__
    return run


def error_of(stream: TextStream) -> RpcError | None:
    return stream.task.ended.result().error


class Panic(BaseException):
    """A panic of a Rust library, as Python sees it."""


def panic(*_: object, **__: object) -> Any:
    raise Panic("test")


Break = Callable[[Stage, TextStream, pytest.MonkeyPatch], None]


def the_detokenizer(stage: Stage, stream: TextStream, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stream, "_text", Broken())
    stage.say(stream.task.seq)


def the_last_text(stage: Stage, stream: TextStream, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stream, "_text", Broken())
    stage.recovery.on_finished(Finished(stream.task.seq, "length", True, Timing()))


def the_ending(stage: Stage, stream: TextStream, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stage.recovery, "_finished", panic)
    stage.recovery.on_finished(Finished(stream.task.seq, "length", True, Timing()))


def what_tokens_clear(stage: Stage, stream: TextStream, patch: pytest.MonkeyPatch) -> None:
    with patch.context() as only_now:
        only_now.setattr(stage.recovery._poison_search, "progressed", panic)
        stage.say(stream.task.seq)


class Broken:
    push = finish = panic


@staged
async def test_a_stream_with_a_draft_model_waits_on_the_next_engine_until_that_is_loaded_too(stage: Stage) -> None:
    drafted = stage.open("drafted", speculation=Speculation(draft="n")).task
    plain = stage.open("plain").task
    stage.die()
    stage.takes_work = True
    stage.recovery.on_engine_ready()
    await settled()
    stage.models.asked["m"].set_result(None)
    await settled()
    assert list(stage.has) == [plain.seq]
    stage.models.asked["n"].set_result(None)
    await settled()
    assert list(stage.has) == [plain.seq, drafted.seq]


@staged
async def test_a_stream_goes_on_without_a_draft_model_that_cannot_be_loaded_again(stage: Stage) -> None:
    drafted = stage.open("drafted", speculation=Speculation(draft="n")).task
    stage.die()
    stage.takes_work = True
    stage.recovery.on_engine_ready()
    await settled()
    stage.models.asked["n"].set_exception(ModelNotLoaded("n"))
    stage.models.asked["m"].set_result(None)
    await settled()
    assert stage.has[drafted.seq].again


@pytest.mark.parametrize("break_it", [the_detokenizer, the_last_text, the_ending, what_tokens_clear])
def test_what_a_callback_of_a_stream_raises_of_any_kind_ends_that_stream_alone(
    break_it: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    @staged
    async def test(stage: Stage) -> None:
        broken, other = stage.open("a"), stage.open("b")
        with monkeypatch.context() as patch:
            break_it(stage, broken, patch)
        assert isinstance(error_of(broken), InternalError)
        assert not other.task.ended.done()
        for _ in range(LIMIT + 1):
            stage.say(other.task.seq)
        assert other.transcript.tokens == answer(other.task.seq)
        assert other.task.ended.result().reason == "length"

    test()


@pytest.mark.parametrize("event", ["die", "drop"])
def test_streams_whose_loss_cannot_be_taken_in_are_ended_and_do_not_wait(
    event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @staged
    async def test(stage: Stage) -> None:
        lost = [stage.open("a"), stage.open("b")]
        with monkeypatch.context() as patch:
            patch.setattr(stage.recovery._poison_search, "died", panic)
            getattr(stage, event)(lost[0].task.seq)
        assert [type(error_of(stream)) for stream in lost] == [InternalError, InternalError]

    test()


@staged
async def test_a_stream_that_cannot_be_given_to_the_next_engine_is_ended_and_the_others_go_on(stage: Stage) -> None:
    first, second = stage.open("a"), stage.open("b")
    stage.die()
    send = stage.submit

    def unless_first(message: Submit | Vocabulary) -> None:
        assert isinstance(message, Submit)
        if message.seq == first.task.seq:
            raise OverflowError
        send(message)

    stage.submit = unless_first  # type: ignore[method-assign]
    await stage.revive()
    assert isinstance(error_of(first), InternalError)
    assert second.task.seq in stage.has


@staged
async def test_a_stream_is_refused_only_while_nothing_has_come_of_it(stage: Stage) -> None:
    begun, waiting = stage.open("a"), stage.open("b")
    stage.say(begun.task.seq)
    refusal = EngineLost("any error")
    for stream in (begun, waiting):
        stage.recovery.refuse(stream.task, refusal)
    assert error_of(waiting) is refusal
    assert not begun.task.ended.done()
    assert stage.told == [Cancel(waiting.task.seq)]


@pytest.mark.parametrize("said", range(LIMIT))
def test_a_parser_notices_nothing_of_a_lost_engine(said: int) -> None:
    @staged
    async def test(stage: Stage) -> None:
        stream = stage.open(parser=Asides("cd", "gh"))
        stage.say(*[1] * said)
        stage.die(1)
        await stage.revive()
        stage.say(*[1] * (LIMIT - said + 1))
        assert stream.transcript.tokens == list(b"bcdefghi")
        assert (stream.transcript.text, stream.transcript.text_of(ASIDE)) == ("bi", "ef")

    test()


@staged
async def test_the_next_engine_goes_on_behind_the_last_token(stage: Stage) -> None:
    stream = stage.open()
    stage.say(1, 1, 1)
    stage.die(1)
    assert not stream.task.ended.done()
    await stage.revive()
    replay = stage.sent[-1]
    assert (replay.seq, replay.tokens, replay.again) == (1, [1, *answer(1)[:3]], True)
    assert replay.goal == Generate(Sampling(), [], LIMIT, emitted=3)
    while not stream.task.ended.done():
        stage.say(1)
    assert stream.transcript.tokens == answer(1)
    assert stream.task.ended.result().reason == "length"


@staged
async def test_the_host_hears_of_the_interruption_and_then_the_next_delta(stage: Stage) -> None:
    stage.open()
    stage.say(1, 1)
    [first] = stage.read()
    stage.die(1)
    await stage.revive()
    stage.say(1)
    notice, delta = stage.read()
    assert notice["method"] == "stream/interrupted"
    assert notice["params"] == {"stream": "s", "because": "test", "last_seq": 0}
    assert (first["params"]["seq"], delta["params"]["seq"], delta["params"]["offset"]) == (0, 1, 2)


@staged
async def test_a_host_that_does_not_read_is_told_once_of_many_interruptions(stage: Stage) -> None:
    stage.open()
    for _ in range(20):
        stage.say(1) if stage.sent and len(stage.has[1].tokens) <= LIMIT else None
        stage.die()
        await stage.revive()
    assert [frame["method"] for frame in stage.read()].count("stream/interrupted") == 1


@staged
async def test_the_most_urgent_is_placed_first_and_those_of_a_class_as_they_came(stage: Stage) -> None:
    priorities: list[Priority] = ["low", "normal", "critical", "normal", "high"]
    for number, priority in enumerate(priorities):
        stage.open(str(number), priority)
    stage.die()
    stage.sent.clear()
    await stage.revive()
    assert [submit.seq for submit in stage.sent] == [3, 5, 2, 4, 1]


@staged
async def test_a_stream_that_comes_while_there_is_no_engine_waits_for_the_next(stage: Stage) -> None:
    stage.die()
    stream = stage.open()
    assert stage.sent == []
    await stage.revive()
    assert [submit.again for submit in stage.sent] == [False]
    assert not stream.task.ended.done()


@staged
async def test_a_paused_stream_is_paused_again_and_goes_on_with_an_ack(stage: Stage) -> None:
    stream = stage.open(window=1)
    stage.say(1)
    stage.read()
    stage.say(1)
    assert stage.told == [Pause(1)]
    stage.die(1)
    await stage.revive()
    assert stage.told == [Pause(1), Pause(1)]
    stage.streams.acknowledge(stream, 0)
    assert stage.told[-1] == Resume(1)


@pytest.mark.parametrize("reason", ["cancelled", "deadline"])
def test_a_stream_that_was_about_to_end_ends_with_its_engine(reason: Any) -> None:
    @staged
    async def test(stage: Stage) -> None:
        stream = stage.open()
        stage.say(1)
        stage.recovery.end(stream.task, reason)
        assert not stream.task.ended.done()
        stage.die(1)
        assert stream.task.ended.result().reason == reason
        await stage.revive()
        assert len(stage.sent) == 1

    test()


@staged
async def test_a_stream_whose_stop_string_was_found_ends_with_its_engine(stage: Stage) -> None:
    stream = stage.open(stop="c")
    stage.say(1, 1)
    stage.die(1)
    assert (stream.task.ended.result().reason, stream.transcript.text) == ("stop", "b")


@staged
async def test_a_cancel_without_an_engine_takes_effect_at_once(stage: Stage) -> None:
    stream = stage.open()
    stage.say(1)
    stage.die(1)
    stage.recovery.end(stream.task, "cancelled")
    assert stream.task.ended.result().reason == "cancelled"
    assert stream.task.ended.result().started


def test_a_cancel_takes_effect_although_the_engine_does_not_react() -> None:
    async def test() -> None:
        stage = Stage()
        stage.recovery = Recovery(stage.journal, grace_s=0.0)
        stage.recovery.attach(stage, stage.models)
        with stage.held:
            stream = stage.open()
            stage.say(1)
            stage.recovery.end(stream.task, "cancelled")
            assert (await stream.task.ended).reason == "cancelled"
            stage.say(1, 1)
            assert stream.transcript.tokens == answer(1)[:1]

    asyncio.run(asyncio.wait_for(test(), 60))


@staged
async def test_one_that_was_alone_at_two_deaths_without_a_token_between_is_poison(stage: Stage) -> None:
    guilty = stage.open()
    assert not stage.die(1)
    await stage.revive()
    assert stage.die(1)
    assert isinstance(error_of(guilty), PoisonRequest)
    assert stage.recovery.counters["poisoned"] == 1


@staged
async def test_a_suspect_that_others_were_placed_beside_is_tried_alone_before_it_is_poison(stage: Stage) -> None:
    guilty, other = stage.open("guilty"), stage.open("other")
    stage.say(2)
    for _ in range(2):
        stage.die(1)
        await stage.revive()
    assert not guilty.task.ended.done()
    assert set(stage.has) == {1}
    stage.die(1)
    assert isinstance(error_of(guilty), PoisonRequest)
    await stage.revive()
    stage.say(*[2] * LIMIT)
    assert other.task.ended.result().reason == "length"


@staged
async def test_who_is_alone_when_others_kill_engines_is_not_soon_taken_for_poison(stage: Stage) -> None:
    stage.forced = True
    stream = stage.open()
    for _ in range(DEATHS_BY_FORCE - 1):
        stage.die(1)
        await stage.revive()
    assert not stream.task.ended.done()
    stage.die(1)
    assert isinstance(error_of(stream), PoisonRequest)


@staged
async def test_a_token_between_two_deaths_clears_a_stream(stage: Stage) -> None:
    stream = stage.open()
    for _ in range(LIMIT):
        stage.say(1)
        stage.die(1)
        await stage.revive()
    stage.say(1)
    assert stream.task.ended.result().reason == "length"
    assert stream.transcript.tokens == answer(1)


@staged
async def test_two_poisons_among_sixteen_are_found_and_fourteen_finish(stage: Stage) -> None:
    streams = {(stream := stage.open(str(i))).task.seq: stream for i in range(16)}
    poison, deaths = {4, 11}, 0
    while any(not stream.task.ended.done() for stream in streams.values()):
        if poison & stage.has.keys():
            stage.die(*stage.has)
            deaths += 1
            await stage.revive()
        else:
            stage.say(*list(stage.has))
    assert {seq for seq, stream in streams.items() if isinstance(error_of(stream), PoisonRequest)} == poison
    assert all(stream.transcript.tokens == answer(seq) for seq, stream in streams.items() if seq not in poison)
    assert deaths <= 2 + 2 * (4 + 1)


@staged
async def test_a_newcomer_waits_while_the_guilty_is_looked_for(stage: Stage) -> None:
    for name in "abcd":
        stage.open(name)
    for _ in range(2):
        stage.die(1, 2, 3, 4)
        await stage.revive()
    assert set(stage.has) == {1, 2}
    assert stage.recovery.isolating
    stage.open("new")
    assert set(stage.has) == {1, 2}
    stage.say(1, 2)
    assert set(stage.has) == {1, 2, 3, 4}
    stage.say(3, 4)
    assert set(stage.has) == {1, 2, 3, 4, 5}


@staged
async def test_a_step_that_fails_is_tried_again_and_the_guilty_is_found_without_a_death(stage: Stage) -> None:
    streams = [stage.open(name) for name in "abcd"]
    while stage.has:
        if 3 in stage.has:
            stage.drop(*stage.has)
        else:
            stage.say(*list(stage.has))
    assert isinstance(error_of(streams[2]), PoisonRequest)
    assert [stream.transcript.tokens for stream in streams if stream.task.seq != 3] == [answer(1), answer(2), answer(4)]


@staged
async def test_a_model_that_cannot_be_loaded_again_ends_its_streams_with_the_reason(stage: Stage) -> None:
    stream, other = stage.open(), stage.open("other", model="n")
    stage.say(1)
    stage.die(1)
    stage.takes_work = True
    stage.recovery.on_engine_ready()
    await settled()
    stage.models.asked["m"].set_exception(ModelLoadFailed("m", "it is gone"))
    stage.models.asked["n"].set_result(None)
    await settled()
    assert isinstance(error_of(stream), ModelLoadFailed)
    assert stream.task.ended.result().started
    assert set(stage.has) == {other.task.seq}


@staged
async def test_a_model_that_cannot_be_loaded_again_for_a_bug_of_ours_keeps_nobody_waiting(stage: Stage) -> None:
    stream, other = stage.open(), stage.open("other", model="n")
    stage.die(1)
    stage.takes_work = True
    stage.recovery.on_engine_ready()
    await settled()
    stage.models.asked["m"].set_exception(ZeroDivisionError())
    stage.models.asked["n"].set_result(None)
    await settled()
    assert isinstance(error_of(stream), InternalError)
    assert set(stage.has) == {other.task.seq}
    assert stage.is_restored


@staged
async def test_a_model_that_was_evicted_before_a_stream_came_back_to_it_is_loaded_again(stage: Stage) -> None:
    stream = stage.open()
    stage.say(1)
    stage.die(1)
    await stage.revive()
    del stage.has[1]
    stage.recovery.on_finished(Finished(1, "error", False, Timing(), fault=GONE))
    await stage.load()
    assert 1 in stage.has
    assert not stream.task.ended.done()


@staged
async def test_a_model_that_is_unloaded_by_force_is_not_loaded_again_for_a_stream_that_had_begun(stage: Stage) -> None:
    stream = stage.open()
    stage.say(1)
    stage.die(1)
    await stage.revive()
    stage.models.leaving.add("m")
    stage.recovery.on_finished(Finished(1, "error", False, Timing(), fault=GONE))
    assert isinstance(error_of(stream), ModelNotLoaded)
    await settled()
    assert stage.models.asked == {}


@staged
async def test_a_stream_that_is_about_to_end_is_not_placed_again_when_its_model_was_evicted(stage: Stage) -> None:
    stream = stage.open()
    stage.say(1)
    stage.die(1)
    await stage.revive()
    stage.recovery.end(stream.task, "cancelled")
    del stage.has[1]
    stage.recovery.on_finished(Finished(1, "error", False, Timing(), fault=GONE))
    await stage.load()
    assert stage.has == {}
    assert (stream.task.ended.result().reason, error_of(stream)) == ("cancelled", None)


@staged
async def test_one_that_ran_beside_another_is_not_blamed_because_that_one_was_cancelled(stage: Stage) -> None:
    poison, innocent = stage.open("poison"), stage.open("innocent")
    stage.die(1, 2)
    await stage.revive()
    stage.recovery.end(poison.task, "cancelled")
    assert stage.die(1, 2)
    assert poison.task.ended.result().reason == "cancelled"
    assert not innocent.task.ended.done()
    await stage.revive()
    stage.say(2)
    assert not stage.recovery.isolating


@staged
async def test_nobody_is_placed_after_a_failed_step_before_it_is_known_who_may_run(stage: Stage) -> None:
    stage.open("set aside")
    on_trial = stage.open("on trial")
    for _ in range(2):
        stage.die(1, 2)
        await stage.revive()
    stage.open("newcomer")
    stage.recovery.post(Pause(1))
    assert set(stage.has) == {1, 2}
    stage.recovery.post(Resume(1))
    stage.recovery.end(on_trial.task, "cancelled")
    stage.drop(1, 2)
    assert set(stage.has) == {1}  # the newcomer waits until it has been tried


@staged
async def test_a_model_whose_streams_wait_for_an_engine_is_in_use_and_with_force_they_end(stage: Stage) -> None:
    stream, other = stage.open(), stage.open("other", model="n")
    stage.say(1)
    stage.recovery.unloading("n", force=False)  # the engine has its streams, and will say so
    stage.die(1)
    with pytest.raises(ModelInUse) as refused:
        stage.recovery.unloading("m", force=False)
    assert refused.value.details == {"model": "m", "streams": 1}
    stage.recovery.unloading("m", force=True)
    assert isinstance(error_of(stream), ModelNotLoaded)
    assert not other.task.ended.done()


@staged
async def test_when_engines_are_given_up_every_stream_is_told(stage: Stage) -> None:
    streams = [stage.open(name) for name in "abc"]
    stage.say(1)
    stage.die(1, 2)
    stage.given_up = True
    stage.recovery.on_given_up(EngineLost("test"))
    assert all(isinstance(error_of(stream), EngineLost) for stream in streams)
    assert [stream.task.ended.result().started for stream in streams] == [True, False, False]
    with pytest.raises(EngineLost):
        stage.open("late")


@staged
async def test_the_engine_counts_as_restored_when_the_first_model_is_back(stage: Stage) -> None:
    stage.die()
    stage.takes_work = True
    stage.recovery.on_engine_ready()
    await settled()
    assert not stage.is_restored
    stage.models.asked["m"].set_result(None)
    await settled()
    assert stage.is_restored


def test_what_would_go_beyond_the_journal_is_refused_and_what_is_in_it_stays() -> None:
    async def test() -> None:
        each = TOKEN_BYTES * (1 + LIMIT)
        stage = Stage(journal_bytes=2 * each)
        with stage.held:
            first, _ = stage.open("a"), stage.open("b")
            with pytest.raises(OutOfMemory) as refused:
                stage.open("c")
            assert refused.value.details == {"need_bytes": each, "have_bytes": 0}
            stage.say(1)
            assert not first.task.ended.done()
        assert stage.journal.held_bytes == 0

    asyncio.run(test())


ACTIONS = st.sampled_from(["open", "say", "say", "say", "die", "drop", "cancel", "pause"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ACTIONS, st.randoms(use_true_random=False)), max_size=60))
def test_whatever_happens_every_stream_ends_once_with_the_text_of_an_undisturbed_run(
    actions: list[tuple[str, Any]],
) -> None:
    """Kills come with whatever runs; between two of them some may have had no token, and only such may be poison."""

    async def test() -> None:
        stage = Stage()
        streams: list[TextStream] = []
        deaths: dict[int, int] = {}  # since the last token
        cancelled: set[int] = set()

        def say(seq: int) -> None:
            if len(stage.has[seq].tokens) <= LIMIT:
                deaths[seq] = 0
            stage.say(seq)

        async def step(action: str, pick: Any) -> None:
            live = [stream for stream in streams if not stream.task.ended.done()]
            if action == "open":
                streams.append(stage.open(f"s{len(streams)}"))
            elif action == "say" and stage.has:
                say(pick.choice(sorted(stage.has)))
            elif action in ("die", "drop"):
                running = [seq for seq in stage.has if pick.random() < 0.7]
                deaths.update({seq: deaths.get(seq, 0) + 1 for seq in running})
                if action == "drop":
                    stage.drop(*running)
                else:
                    stage.die(*running)
                    await stage.revive()
            elif action == "cancel" and live:
                victim = pick.choice(live)
                cancelled.add(victim.task.seq)
                stage.recovery.end(victim.task, "cancelled")
            elif action == "pause" and stage.has:
                stage.recovery.post(Pause(pick.choice(sorted(stage.has))))

        with stage.held:
            for action, pick in actions:
                await step(action, pick)
            while stage.has:
                for seq in list(stage.has):
                    if seq in stage.has:
                        say(seq)
            for stream in streams:
                assert stream.task.ended.done()
                ending = stream.task.ended.result()
                assert stream.transcript.tokens == answer(stream.task.seq)[: len(stream.transcript.tokens)]
                if isinstance(ending.error, PoisonRequest):
                    assert deaths[stream.task.seq] >= 2
                elif stream.task.seq not in cancelled:
                    assert (ending.reason, stream.transcript.tokens) == ("length", answer(stream.task.seq))
        assert stage.journal.held_bytes == 0
        assert not stage.recovery.isolating

    asyncio.run(test())


@staged
async def test_a_stream_with_a_draft_model_goes_on_once_the_next_engine_has_both(stage: Stage) -> None:
    stage.models.resident.add("d")
    stream = stage.open(speculation=Speculation(draft="d"))
    stage.say(stream.task.seq)
    stage.die(stream.task.seq)
    stage.takes_work = True
    stage.recovery.on_engine_ready()
    await settled()
    stage.models.asked["m"].set_result(None)
    await settled()
    assert stream.task.seq not in stage.has
    stage.models.asked["d"].set_result(None)
    await settled()
    assert stage.has[stream.task.seq].tokens == [1, answer(stream.task.seq)[0]]


@staged
async def test_a_draft_model_is_in_use_by_the_stream_it_makes_proposals_for(stage: Stage) -> None:
    stage.models.resident.add("d")
    stream = stage.open(speculation=Speculation(draft="d"))
    stage.die()
    with pytest.raises(ModelInUse):
        stage.recovery.unloading("d", force=False)
    stage.recovery.unloading("d", force=True)
    assert isinstance(error_of(stream), ModelNotLoaded)

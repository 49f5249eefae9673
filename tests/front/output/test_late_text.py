"""Streams whose text only the text process can make: it comes later than its tokens, and is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.output.late_text import LateText
from mlx_sidecar.front.output.stops import StopMatcher
from mlx_sidecar.front.output.window import Window
from mlx_sidecar.front.streams.task import EngineTask
from mlx_sidecar.front.streams.text_stream import TextStream
from mlx_sidecar.link.messages import Finished, Generate, Sampling, Submit, Timing, Tokens
from mlx_sidecar.link.token_table import Strings, TokenTable, packed
from mlx_sidecar_protocol.errors import ModelUnsupported
from tests.support.desk import GONE, Desk, Shelf

# Token n is the byte n, and what bytes make is decoded elsewhere.
TABLE = TokenTable(packed(range(256)), Strings.of(f"t{n}" for n in range(256)), b"", None)


class Elsewhere:
    """Decodes bytes when it is let. ``error`` is raised instead, if there is one."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.may = asyncio.Event()
        self.asked = asyncio.Event()
        self.error: ModelUnsupported | None = None
        if at_once:
            self.may.set()

    async def decode(self, runs: Sequence[Sequence[int]]) -> list[str]:
        self.asked.set()
        await asyncio.sleep(0)
        await self.may.wait()
        if self.error is not None:
            raise self.error
        return [bytes(run).decode(errors="replace") for run in runs]


class Stage:
    """A desk with one stream, placed, whose text is made ``elsewhere``."""

    def __init__(self, elsewhere: Elsewhere, stop: Sequence[str] = (), behind: bytes = b"") -> None:
        self.desk = Desk()
        self.desk.recovery.attach(self.desk, Shelf())
        number = self.desk.recovery.tasks.next_number()
        late = LateText(elsewhere.decode, Window(TABLE, frozenset(), list(behind)))
        self.task = EngineTask(Submit(number, "fake", [1], Generate(Sampling(), [], 100)))
        self.stream = TextStream(self.task, "s", late, StopMatcher(stop))

    @contextmanager
    def carrying(self) -> Iterator[None]:
        with self.desk.streams.hearing(self.stream), self.desk.recovery.carrying(self.task):
            yield

    def say(self, data: bytes) -> None:
        self.desk.recovery.on_tokens(Tokens(self.task.seq, list(data)))

    def finish(self) -> None:
        self.desk.recovery.on_finished(Finished(self.task.seq, "stop", True, Timing()))


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def test_an_ending_waits_for_the_text_of_the_tokens_before_it() -> None:
    async def test() -> None:
        elsewhere = Elsewhere(at_once=False)
        stage = Stage(elsewhere)
        with stage.carrying():
            stage.say("Zwölf".encode()[:4])
            stage.say("Zwölf".encode()[4:])
            stage.finish()
            await elsewhere.asked.wait()
            assert not stage.task.ended.done()
            elsewhere.may.set()
            assert (await stage.task.ended).reason == "stop"
            assert (stage.stream.transcript.text, stage.stream.transcript.tokens) == ("Zwölf", list("Zwölf".encode()))

    on_loop(test)


def test_a_stop_string_ends_text_that_comes_late() -> None:
    async def test() -> None:
        stage = Stage(Elsewhere(), ["en"])
        with stage.carrying():
            stage.say(b"to the ")
            stage.say(b"end of it")
            stage.finish()
            await stage.task.ended
            assert (stage.stream.transcript.text, stage.stream.stop_match) == ("to the ", "en")

    on_loop(test)


def test_a_text_that_cannot_be_had_ends_its_stream_with_the_reason() -> None:
    async def test() -> None:
        elsewhere = Elsewhere()
        elsewhere.error = ModelUnsupported("m", "its decoder does not end")
        stage = Stage(elsewhere)
        with stage.carrying():
            stage.say(b"text")
            ending = await stage.task.ended
            assert (ending.reason, ending.error) == ("error", elsewhere.error)

    on_loop(test)


def test_an_engine_that_is_lost_while_the_prompt_is_read_costs_a_continuation_nothing() -> None:
    async def test() -> None:
        elsewhere = Elsewhere(at_once=False)
        stage = Stage(elsewhere, behind="Z\u00fc".encode()[:2])
        with stage.carrying():
            stage.say("\u00fc".encode()[1:])
            await elsewhere.asked.wait()
            stage.desk.recovery.on_engine_lost(frozenset(), "test", forced=True)
            stage.desk.recovery.on_engine_ready()
            elsewhere.may.set()
            stage.say("\u00fc".encode()[1:])
            stage.finish()
            await stage.task.ended
            assert stage.stream.transcript.text == "\u00fc"

    on_loop(test)


def test_a_stream_whose_model_was_gone_for_a_moment_loses_nothing_of_its_end() -> None:
    async def test() -> None:
        elsewhere = Elsewhere()
        stage = Stage(elsewhere)
        with stage.carrying():
            stage.desk.recovery.on_engine_lost(frozenset(), "test", forced=True)
            stage.desk.recovery.on_engine_ready()
            gone = Finished(stage.task.seq, "error", False, Timing(), fault=GONE)
            stage.desk.recovery.on_finished(gone)
            while not stage.desk.sent[2:]:
                await asyncio.sleep(0)
            stage.say(b"the end")
            stage.finish()
            await stage.task.ended
            assert stage.stream.transcript.text == "the end"

    on_loop(test)


@given(
    st.text(min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.booleans()), min_size=1, max_size=12),
)
def test_whenever_engines_are_lost_the_text_is_that_of_an_undisturbed_run(
    text: str, course: list[tuple[int, int, bool]]
) -> None:
    """``course``: how many tokens come at once, how often the loop then goes round, and whether the engine is lost."""

    async def test() -> None:
        stage = Stage(Elsewhere())
        data, stream = text.encode(), stage.stream
        with stage.carrying():
            said = 0  # of what the engine that there is has to say
            for count, turns, lost in course:
                stage.say(data[said : said + count]) if said < len(data) else None
                said = min(len(data), said + count)
                for _ in range(turns):
                    await asyncio.sleep(0)
                if lost:
                    stage.desk.recovery.on_engine_lost(frozenset(), "test", forced=True)
                    stage.desk.recovery.on_engine_ready()
                    said = len(stream.transcript.tokens)
                    assert stage.desk.sent[-1].tokens == [1, *data[:said]]
            stage.say(data[said:]) if said < len(data) else None
            stage.finish()
            await stage.task.ended
            assert (stream.transcript.text, bytes(stream.transcript.tokens)) == (text, data)

    on_loop(test)

"""A stream whose parser sorts its output into channels: numbers, offsets, stops and windows are as without one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.channels import REASONING, TEXT, CallHead, Channel
from mlx_sidecar.front.output.chat_parser import ChatParser
from mlx_sidecar.front.output.formats.table import formats_of
from mlx_sidecar.front.stream_events import Delta
from mlx_sidecar.front.streams.text_stream import TextStream
from mlx_sidecar.link.messages import Cancel, Pause, Resume
from tests.support.parsers import ASIDE, Asides
from tests.support.streams import Bench, on_loop


def taken(stream: TextStream) -> list[Delta]:
    """The deltas that the host of ``stream`` reads now."""
    deltas = stream.deltas
    assert deltas is not None
    return list(iter(deltas.take, None))


def channels(text: str) -> dict[str, str]:
    """``text`` sorted in one go."""
    parts = {TEXT: "", ASIDE: ""}
    channel, marker = TEXT, "<<"
    while marker in text:
        before, _, text = text.partition(marker)
        parts[channel] += before
        channel, marker = (ASIDE, ">>") if channel == TEXT else (TEXT, "<<")
    parts[channel] += text
    return parts


@given(
    st.text("ab<>", max_size=40),
    st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.integers(-1, 8)), max_size=30),
)
def test_deltas_of_each_channel_add_up_however_tokens_reads_and_rewinds_interleave(
    text: str, steps: list[tuple[int, bool, int]]
) -> None:
    def test() -> None:
        bench = Bench(parser=Asides())
        stream, rest, deltas = bench.stream, text.encode(), list[Delta]()
        for size, read, rewind_to in [*steps, (len(rest) + 1, False, -1)]:
            piece, rest = rest[:size], rest[size:]
            bench.say(piece)
            deltas += taken(stream) if read else []
            if 0 <= rewind_to < len(deltas):
                bench.streams.rewind(stream, rewind_to)
        bench.finish()
        deltas += taken(stream)
        assert [delta.seq for delta in deltas] == list(range(len(deltas)))
        for channel, expected in channels(text).items():
            heard = ""
            for delta in deltas:
                if delta.channel == channel:
                    assert delta.offset <= len(heard)
                    assert heard[delta.offset :].startswith(delta.text) or delta.text.startswith(heard[delta.offset :])
                    heard = max(heard, heard[: delta.offset] + delta.text, key=len)
            assert heard == expected == stream.transcript.text_of(channel)
        assert stream.transcript.text == channels(text)[TEXT]
        assert stream.transcript.tokens == list(text.encode())

    on_loop(test)


@given(st.text("ab<>", max_size=30), st.lists(st.integers(1, 5), max_size=20))
def test_each_token_comes_once_and_in_order_whatever_channel_its_text_is_of(text: str, sizes: list[int]) -> None:
    def test() -> None:
        bench = Bench(parser=Asides())
        rest, deltas = text.encode(), list[Delta]()
        for size in [*sizes, len(rest) + 1]:
            piece, rest = rest[:size], rest[size:]
            bench.say(piece)
            deltas += taken(bench.stream)
        bench.finish()
        deltas += taken(bench.stream)
        assert bytes(token for delta in deltas for token in delta.tokens) == text.encode()

    on_loop(test)


def test_a_stop_string_ends_the_text_before_it_comes_to_the_parser() -> None:
    def test() -> None:
        bench = Bench(["END"], parser=Asides())
        bench.say(b"a<<b<EN")
        bench.say(b"D>>c")
        bench.finish()
        assert bench.told == [Cancel(bench.task.seq, "stop")]
        assert bench.stream.transcript.text_of(ASIDE) == "b<"
        assert (bench.stream.transcript.text, bench.stream.stop_match) == ("a", "END")

    on_loop(test)


def test_what_a_parser_holds_back_comes_with_the_end() -> None:
    def test() -> None:
        bench = Bench(parser=Asides())
        bench.say(b"a<")
        assert [delta.text for delta in taken(bench.stream)] == ["a"]
        bench.finish()
        assert [(delta.text, delta.offset) for delta in taken(bench.stream)] == [("<", 1)]

    on_loop(test)


def test_each_delta_counts_against_the_window_whatever_its_channel() -> None:
    def test() -> None:
        bench = Bench(window=2, parser=Asides())
        bench.say(b"a<<b>>c")
        assert [(delta.channel, delta.offset, delta.text) for delta in taken(bench.stream)] == [
            (TEXT, 0, "a"),
            (ASIDE, 0, "b"),
        ]
        bench.say(b"d")
        assert bench.told == [Pause(bench.task.seq)]
        bench.streams.acknowledge(bench.stream, 1)
        assert [(delta.channel, delta.offset, delta.text) for delta in taken(bench.stream)] == [(TEXT, 1, "cd")]
        assert bench.told == [Pause(bench.task.seq), Resume(bench.task.seq)]

    on_loop(test)


PIECES = st.lists(
    st.sampled_from(
        ["a", "é", " ", "\n", "<", "<tool_call>\n", '{"name": "look", "arguments": {"q": "', '"}}', "\n</tool_call>"]
    )
    | st.text(max_size=3),
    max_size=14,
)
CALL = '<tool_call>\n{"name": "look", "arguments": {"q": "Bern <b>"}}\n</tool_call>'
ANSWERS = st.builds(
    lambda thought, parts: (f"<think>{thought}</think>" if thought else "") + "".join(parts),
    st.text("ab</think>\n", max_size=12),
    st.lists(st.sampled_from([CALL, CALL[:40], "text", "\n"]) | PIECES.map("".join), max_size=5),
)
STEPS = st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.integers(-1, 12)), max_size=30)
LOOK = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


class Hearer:
    """A host that puts each channel together by the offsets, and calls by their order where deltas have none."""

    def __init__(self) -> None:
        self.texts: dict[Channel, str] = {}
        self.heads: dict[Channel, CallHead] = {}

    def hear(self, delta: Delta) -> None:
        before = self.texts.get(delta.channel, "")
        assert delta.offset <= len(before)
        assert delta.text.startswith(before[delta.offset :]) or before[delta.offset :].startswith(delta.text)
        self.texts[delta.channel] = max(before, before[: delta.offset] + delta.text, key=len)
        if isinstance(delta.channel, int):
            assert (delta.head is not None) == (delta.offset == 0)
            if delta.head is not None:
                assert self.heads.setdefault(delta.channel, delta.head) == delta.head
                assert sorted(self.heads) == list(range(len(self.heads)))
        elif delta.text:
            assert delta.head is None
        if delta.channel == TEXT and delta.text:
            assert delta.text_offset == delta.offset


@given(ANSWERS, STEPS, st.integers(1, 50))
def test_calls_and_reasoning_add_up_with_their_heads_however_tokens_reads_and_rewinds_interleave(
    answer: str, steps: list[tuple[int, bool, int]], size: int
) -> None:
    def test() -> None:
        parser = ChatParser(formats_of({"<tool_call>", "</think>"}.__contains__), LOOK)
        bench = Bench(parser=parser)
        stream, rest, hearer, count = bench.stream, answer.encode(), Hearer(), 0

        def read() -> int:
            heard = taken(stream)
            for delta in heard:
                hearer.hear(delta)
            return len(heard)

        for step, reads, rewind_to in steps:
            piece, rest = rest[:step], rest[step:]
            bench.say(piece)
            count += read() if reads else 0
            if 0 <= rewind_to < count:
                bench.streams.rewind(stream, rewind_to)
        while rest:
            piece, rest = rest[:size], rest[size:]
            bench.say(piece)
        bench.finish()
        read()
        bench.streams.rewind(stream, None)
        again = Hearer()
        for delta in taken(stream):
            again.hear(delta)
        transcript, outcome = stream.transcript, stream.outcome
        for channel in (TEXT, REASONING, *range(len(transcript.heads))):
            assert hearer.texts.get(channel, "") == again.texts.get(channel, "") == transcript.text_of(channel)
        assert list(hearer.heads.values()) == list(again.heads.values()) == transcript.heads
        told = {*outcome.calls, *(each.index for each in outcome.unfinished if each.index is not None)}
        assert told == set(range(len(transcript.heads)))

    on_loop(test)

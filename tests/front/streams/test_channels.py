"""A stream whose parser sorts its output into channels: numbers, offsets, stops and windows are as without one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.output.parser import TEXT
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

"""A stream: from tokens to numbered deltas, whatever the order in which the engine speaks and the host reads."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.streams.registry import REMEMBERED, Streams
from mlx_sidecar.front.streams.task import Ending
from mlx_sidecar.front.streams.text_stream import TextStream
from mlx_sidecar.link.messages import Cancel, Effort, Timing, Tokens
from mlx_sidecar_protocol.errors import UnknownStream
from tests.support.streams import Bench, on_loop


@given(st.text(max_size=60), st.lists(st.integers(1, 7), max_size=60), st.lists(st.booleans(), max_size=60))
def test_deltas_add_up_to_the_text_however_tokens_and_reads_interleave(
    text: str, sizes: list[int], reads: list[bool]
) -> None:
    def test() -> None:
        bench = Bench([])
        tokens, deltas = list(text.encode()), []
        for n, size in enumerate([*sizes, len(tokens) + 1]):
            piece, tokens = tokens[:size], tokens[size:]
            bench.say(bytes(piece))
            if n < len(reads) and reads[n]:
                deltas += bench.deltas()
        bench.finish()
        deltas += bench.deltas()
        assert "".join(delta["text"] for delta in deltas) == text == bench.stream.transcript.text
        assert [token for delta in deltas for token in delta["tokens"]] == list(text.encode())
        assert [delta["seq"] for delta in deltas] == list(range(len(deltas)))
        assert bench.stream.last_seq == (len(deltas) - 1 if deltas else None)

    on_loop(test)


def test_a_stop_string_tells_the_engine_once_and_later_tokens_are_nobodys() -> None:
    def test() -> None:
        bench = Bench(["END"])
        for piece in (b"one E", b"ND two", b" three"):
            bench.say(piece)
        bench.finish()
        assert bench.told == [Cancel(bench.task.seq, "stop")]
        assert (bench.stream.transcript.text, bench.stream.finish_reason) == ("one ", "stop")

    on_loop(test)


@pytest.mark.parametrize("sizes", [[1] * 14, [3, 11], [14]])
def test_tokens_behind_a_stop_string_are_dropped_however_many_come_in_one_pass(sizes: list[int]) -> None:
    def test() -> None:
        bench = Bench(["END"])
        tokens = b"one END, two, three"
        for size in sizes:
            bench.say(tokens[:size], effort=Effort(forced=size))
            tokens = tokens[size:]
        bench.finish()
        assert bytes(bench.stream.transcript.tokens) == b"one END"
        assert (bench.stream.transcript.text, bench.stream.stop_match) == ("one ", "END")
        assert bench.stream.effort.forced == 7
        assert [token for delta in bench.deltas() for token in delta["tokens"]] == list(b"one END")

    on_loop(test)


def test_a_stop_string_that_was_found_counts_even_if_the_engine_dies_before_it_heard() -> None:
    def test() -> None:
        bench = Bench(["END"])
        bench.say(b"oneEND")
        bench.give_up()
        assert bench.task.ended.done()
        assert bench.stream.finish_reason == "stop"

    on_loop(test)


def test_rewinding_sends_everything_behind_a_delta_again_in_one() -> None:
    def test() -> None:
        bench = Bench([])
        for piece in (b"a", b"b", b"c"):
            bench.say(piece)
            bench.deltas()
        assert bench.streams.rewind(bench.stream, 0) == 2
        (again,) = bench.deltas()
        assert (again["seq"], again["offset"], again["text"]) == (3, 1, "bc")
        bench.streams.rewind(bench.stream, 99)  # beyond the last: there is nothing to send again
        assert bench.deltas() == []

    on_loop(test)


def test_a_bounded_number_of_ended_streams_is_remembered() -> None:
    def test() -> None:
        bench = Bench([])
        ended = [bench.open(f"e{n}", []) for n in range(REMEMBERED + 5)]
        for stream in ended:
            stream.task.finish(Ending(reason="stop", started=True, timing=Timing()))
            bench.close(str(stream.name))
        assert bench.streams.find(f"e{REMEMBERED + 4}") is ended[-1]
        assert bench.streams.find("s") is bench.stream
        missing = sum(not _known(bench.streams, stream) for stream in ended)
        assert missing == 5

    on_loop(test)


def _known(streams: Streams, stream: TextStream) -> bool:
    try:
        return stream.name is not None and streams.find(stream.name) is stream
    except UnknownStream:
        return False


class _Breaks:
    """A detokenizer with a bug: either method may raise."""

    def __init__(self, method: str) -> None:
        self._method = method

    def push(self, token: int) -> str:
        return self.push_many([token])

    def push_many(self, tokens: Iterable[int]) -> str:
        if self._method == "push_many" and list(tokens) == [0]:
            raise RuntimeError("push_many")
        return bytes(tokens).decode()

    def pending(self) -> str:
        return ""

    def finish(self) -> str:
        raise RuntimeError("finish")


@pytest.mark.parametrize("method", ["push_many", "finish"])
def test_a_fault_in_making_text_ends_that_stream_and_no_other(method: str) -> None:
    def test() -> None:
        bench = Bench([])
        broken = bench.open("b", [], _Breaks(method))
        number, listener = broken.task.seq, broken.task.listener
        assert listener is not None
        listener.on_tokens(Tokens(number, list(b"text")))
        listener.on_tokens(Tokens(number, [0] if method == "push_many" else list(b".")))
        broken.task.finish(Ending(reason="stop", started=True, timing=Timing()))
        ending = broken.task.ended.result()
        assert (ending.reason, ending.started, broken.finish_reason) == ("error", True, "error")
        assert ending.error is not None
        assert ending.error.kind == "internal_error"
        assert "".join(delta["text"] for delta in bench.deltas()) == broken.transcript.text
        assert broken.transcript.text.startswith("text")
        assert bench.told == ([Cancel(number)] if method == "push_many" else [])
        bench.say(b"on")
        assert [delta["text"] for delta in bench.deltas()] == ["on"]

    on_loop(test)

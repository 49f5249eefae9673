"""Windows: how many deltas may go unacknowledged, which messages wait for an ack, and which never do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.streams.task import Ending
from mlx_sidecar.link.messages import Cancel, Pause, Resume
from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter
from tests.support.streams import Bench, on_loop

OPERATIONS = st.one_of(
    st.tuples(st.just("say"), st.text(max_size=5)),
    st.tuples(st.just("drain"), st.integers(1, 400)),
    st.tuples(st.just("ack"), st.integers(0, 5)),
    st.tuples(st.just("rewind"), st.integers(0, 5)),
)


class Window:
    """A bench, and the messages its host has seen; after each step nothing must have gone beyond the window."""

    def __init__(self, window: int) -> None:
        self.bench = Bench(["STOP"], window=window)
        self.window = window
        self.deltas: list[dict[str, Any]] = []
        self.acknowledged = 0
        self.text = ""

    def step(self, operation: str, argument: Any) -> None:
        bench = self.bench
        if operation == "say":
            bench.say(argument.encode())
            self.text += argument
        elif operation == "drain":
            self.deltas += bench.deltas(argument)
        elif operation == "ack" and argument < len(self.deltas):
            bench.streams.acknowledge(bench.stream, argument)
            self.acknowledged = max(self.acknowledged, argument + 1)
        elif operation == "rewind":
            bench.streams.rewind(bench.stream, argument)
        assert len(self.deltas) - self.acknowledged <= self.window

    def read(self) -> str:
        """The text as a host puts it together: each delta where its offset says."""
        text = ""
        for delta in self.deltas:
            assert delta["offset"] <= len(text)
            text = text[: delta["offset"]] + delta["text"] + text[delta["offset"] + len(delta["text"]) :]
        return text


@given(st.integers(1, 3), st.lists(OPERATIONS, max_size=60))
def test_never_more_deltas_than_the_window_go_unacknowledged_and_the_text_arrives_whole(
    size: int, operations: list[tuple[str, Any]]
) -> None:
    def test() -> None:
        window = Window(size)
        for operation, argument in operations:
            window.step(operation, argument)
        window.bench.finish()
        window.deltas += window.bench.deltas()
        assert [delta["seq"] for delta in window.deltas] == list(range(len(window.deltas)))
        assert window.read() == window.text == window.bench.stream.transcript.text
        seq = window.bench.task.seq
        assert window.bench.told == [Pause(seq) if n % 2 == 0 else Resume(seq) for n in range(len(window.bench.told))]

    on_loop(test)


def test_text_behind_a_closed_window_waits_merges_and_goes_out_with_the_ack() -> None:
    def test() -> None:
        bench = Bench(window=1)
        seq = bench.task.seq
        bench.say(b"one ")
        assert [delta["text"] for delta in bench.deltas()] == ["one "]
        assert bench.told == []  # nothing has been decoded in vain yet
        bench.say(b"two ")
        bench.say(b"three")
        assert bench.deltas() == []
        assert bench.told == [Pause(seq)]
        bench.streams.acknowledge(bench.stream, 0)
        assert bench.told == [Pause(seq), Resume(seq)]
        assert [(delta["seq"], delta["text"]) for delta in bench.deltas()] == [(1, "two three")]

    on_loop(test)


def test_an_ack_that_was_given_before_opens_nothing() -> None:
    def test() -> None:
        bench = Bench(window=2)
        for piece in (b"a", b"b", b"c"):
            bench.say(piece)
            assert len(bench.deltas()) == 1
            bench.streams.acknowledge(bench.stream, 0)
        bench.say(b"d")
        bench.streams.acknowledge(bench.stream, 0)
        assert bench.deltas() == []
        assert bench.told == [Pause(bench.task.seq)]

    on_loop(test)


@pytest.mark.parametrize("ending", ["stop", "length", "cancelled", "deadline", "lost", "stop string"])
def test_the_end_of_a_stream_waits_for_no_ack(ending: str) -> None:
    def test() -> None:
        bench = Bench(["STOP"], window=1)
        seq = bench.task.seq
        bench.say(b"one ")
        bench.deltas()
        bench.say(b"two STO" if ending != "stop string" else b"two STOP")
        assert bench.deltas() == []
        if ending == "lost":
            bench.give_up()
        else:
            bench.finish("cancelled" if ending == "cancelled" else "deadline" if ending == "deadline" else "stop")
        assert "".join(delta["text"] for delta in bench.deltas()) == ("two " if ending == "stop string" else "two STO")
        assert isinstance(bench.task.ended.result(), Ending)
        bench.close("s")
        bench.streams.acknowledge(bench.streams.find("s"), 1)  # late, and no mistake
        assert Resume(seq) not in bench.told
        assert (Cancel(seq, "stop") in bench.told) == (ending == "stop string")

    on_loop(test)


def test_acks_beyond_the_last_delta_and_for_streams_without_a_window_are_refused() -> None:
    def test() -> None:
        bench = Bench(window=4)
        with pytest.raises(InvalidParams) as refused:
            bench.streams.acknowledge(bench.stream, 0)
        assert refused.value.data["errors"][0]["loc"] == ["seq"]
        with pytest.raises(UnsupportedParameter) as unasked:
            bench.streams.acknowledge(bench.open("t", []), 0)
        assert unasked.value.data["name"] == "window"

    on_loop(test)


def test_what_is_sent_again_counts_like_any_delta() -> None:
    def test() -> None:
        bench = Bench(window=2)
        for piece in (b"a", b"b"):
            bench.say(piece)
            bench.deltas()
        bench.streams.rewind(bench.stream, None)
        assert bench.deltas() == []
        bench.streams.acknowledge(bench.stream, 1)
        assert [(delta["seq"], delta["offset"], delta["text"]) for delta in bench.deltas()] == [(2, 0, "ab")]

    on_loop(test)


def test_without_a_host_to_acknowledge_windows_are_lifted_for_all_streams() -> None:
    def test() -> None:
        bench = Bench(window=1)
        seq = bench.task.seq
        bench.say(b"one ")
        bench.deltas()
        bench.say(b"two")
        assert bench.told == [Pause(seq)]
        bench.streams.lift_windows()
        assert bench.told == [Pause(seq), Resume(seq)]
        assert [delta["text"] for delta in bench.deltas()] == ["two"]
        later = bench.open("later", [], window=1).deltas
        assert later is not None
        assert later.window is None

    on_loop(test)

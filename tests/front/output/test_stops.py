"""Stop strings decide which text may be sent, and where it ends."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.output.stops import StopMatcher
from mlx_sidecar_protocol.errors import InvalidParams


def naive(stops: list[str], text: str) -> tuple[str, str | None]:
    """The rule as written: read character by character; the first completed ends it, of several the longest."""
    for end in range(1, len(text) + 1):
        if complete := [stop for stop in stops if text[:end].endswith(stop)]:
            match = max(complete, key=len)
            return text[: end - len(match)], match
    return text, None


def run(stops: list[str], deltas: list[str]) -> tuple[str, str | None]:
    matcher = StopMatcher(stops)
    sent = "".join(matcher.push(delta)[0] for delta in deltas) + matcher.finish()
    return sent, matcher.matched


# Few characters, so that stop strings overlap, nest and almost match.
FEW = st.text(alphabet="ab\n😀", max_size=40)
STOPS = st.lists(st.text(alphabet="ab\n😀", min_size=1, max_size=6), min_size=1, max_size=5)


@given(stops=STOPS, deltas=st.lists(FEW, max_size=8))
def test_any_split_of_the_text_gives_what_the_rule_says(stops: list[str], deltas: list[str]) -> None:
    assert run(stops, deltas) == naive(stops, "".join(deltas))


@given(stops=st.lists(st.text(min_size=1), max_size=4), deltas=st.lists(st.text(), max_size=8), data=st.data())
def test_any_text_and_any_characters_in_stop_strings(stops: list[str], deltas: list[str], data: st.DataObject) -> None:
    if stops:
        deltas.insert(data.draw(st.integers(0, len(deltas))), data.draw(st.sampled_from(stops)))
    assert run(stops, deltas) == naive(stops, "".join(deltas))


@given(stops=STOPS, deltas=st.lists(FEW, max_size=8))
def test_no_more_is_held_than_may_begin_a_stop_string(stops: list[str], deltas: list[str]) -> None:
    matcher, text = StopMatcher(stops), ""
    for delta in deltas:
        text += delta
        if matcher.push(delta)[1]:
            assert matcher.held == ""
            break
        possible = [stop for stop in stops if naive(stops, stop) == ("", stop)]
        beginnings = {stop[:length] for stop in possible for length in range(1, len(stop))}
        assert matcher.held == max((each for each in beginnings if text.endswith(each)), key=len, default="")


@given(stops=STOPS, deltas=st.lists(FEW, max_size=8))
def test_pushing_the_text_again_rebuilds_the_state(stops: list[str], deltas: list[str]) -> None:
    lived, rebuilt = StopMatcher(stops), StopMatcher(stops)
    for delta in deltas:
        lived.push(delta)
    rebuilt.push("".join(deltas))
    assert (rebuilt.held, rebuilt.matched) == (lived.held, lived.matched)


def test_without_stop_strings_everything_passes_at_once() -> None:
    matcher = StopMatcher([])
    assert matcher.push("abc") == ("abc", None)
    assert matcher.finish() == ""


def test_text_that_turns_out_to_begin_no_stop_string_is_sent() -> None:
    matcher = StopMatcher(["\n\nUser:"])
    assert matcher.push("Hi.\n\nUs") == ("Hi.", None)
    assert matcher.held == "\n\nUs"
    assert matcher.push("ually") == ("\n\nUsually", None)
    assert matcher.finish() == ""


def test_held_text_comes_out_at_the_end() -> None:
    matcher = StopMatcher(["END"])
    assert matcher.push("the EN") == ("the ", None)
    assert matcher.finish() == "EN"
    assert matcher.finish() == ""


def test_the_first_to_be_completed_wins_and_of_those_the_longest() -> None:
    assert run(["abcd", "bc"], ["abcd"]) == ("a", "bc")
    assert run(["bc", "abc"], ["xabc"]) == ("x", "abc")
    assert run(["a", "ab"], ["xab"]) == ("x", "a")


def test_after_a_match_nothing_comes_any_more() -> None:
    matcher = StopMatcher(["."])
    assert matcher.push("One. Two.") == ("One", ".")
    assert matcher.push(" Three") == ("", ".")
    assert matcher.finish() == ""


def test_an_empty_stop_string_is_refused_by_name() -> None:
    with pytest.raises(InvalidParams) as refused:
        StopMatcher(["a", ""])
    assert refused.value.data["errors"][0]["loc"] == ["stop"]


def test_a_long_near_match_reads_each_character_a_bounded_number_of_times() -> None:
    """The text is one that makes a backtracking search quadratic: counted in steps of the automaton, not in time."""
    matcher = StopMatcher(["a" * 2000 + "b"])
    automaton = matcher._automaton
    assert automaton is not None
    steps = itertools.count()
    follow = automaton.step

    class Counting(list[dict[str, int]]):
        def __getitem__(self, index: Any) -> Any:
            next(steps)
            return super().__getitem__(index)

    automaton.step = Counting(follow)
    for _ in range(1000):
        matcher.push("a" * 20)
    assert next(steps) <= 2 * 20_000

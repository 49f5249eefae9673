"""Prompt lookup proposes what followed the last time that a text had its newest tokens."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.speculation.prompt_lookup import lookup

texts = st.lists(st.integers(0, 4), max_size=60)


def by_hand(text: list[int], most: int) -> list[int]:
    for length in (6, 4, 3, 2):
        for start in range(len(text) - length - 1, -1, -1):
            if text[start : start + length] == text[len(text) - length :]:
                return text[start + length : start + length + most]
    return []


@given(history=texts, behind=st.lists(st.integers(0, 4), max_size=6), most=st.integers(1, 15))
def test_it_is_what_a_search_by_hand_finds(history: list[int], behind: list[int], most: int) -> None:
    assert lookup(array("i", history), behind, most).tokens == by_hand(history + behind, most)


@given(st.lists(st.sampled_from([0, 1, 256, 65536, 1 << 24]), max_size=40))
def test_tokens_are_not_found_across_the_bytes_of_others(history: list[int]) -> None:
    assert lookup(array("i", history), [], 5).tokens == by_hand(history, 5)


def test_a_longer_match_goes_before_a_later_one() -> None:
    text = [1, 2, 3, 4, 5, 6, 9, 5, 6, 7, 1, 2, 3, 4, 5, 6]
    assert lookup(array("i", text), [], 2) == ([9, 5], 6)


def test_a_text_that_never_repeats_gives_nothing() -> None:
    assert lookup(array("i", range(100)), [], 8) == ([], 0)

"""A repeat guard finds the token that completes a loop, wherever the tokens are cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.output.repeat_guard import COPIES, RepeatGuard


def is_loop(tokens: Sequence[int], length: int) -> bool:
    """Whether the last ``length`` tokens repeat with a period of a third of that or less."""
    last = tokens[-length:]
    periods = range(1, length // COPIES + 1)
    return len(last) == length and any(last[period:] == last[:-period] for period in periods)


def first_loop(tokens: Sequence[int], length: int) -> int | None:
    return next((end for end in range(1, len(tokens) + 1) if is_loop(tokens[:end], length)), None)


loops = st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(1, 6)).map(
    lambda each: each[0] * each[1]
)
answers = st.lists(loops, max_size=8).map(lambda parts: [token for part in parts for token in part])


@given(answers, st.integers(COPIES, 24), st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_the_first_loop_is_found_in_tokens_that_come_in_any_pieces(
    tokens: list[int], length: int, pieces: list[int]
) -> None:
    guard, found, at = RepeatGuard(length), None, 0
    while found is None and at < len(tokens):
        piece = tokens[at : at + pieces[at % len(pieces)]]
        count = guard.read(piece)
        found = None if count is None else at + count
        at += len(piece)
    assert found == first_loop(tokens, length)


@given(st.lists(st.integers(0, 9), max_size=300), st.integers(COPIES, 60))
def test_it_remembers_no_more_than_the_longest_period(tokens: list[int], length: int) -> None:
    guard = RepeatGuard(length)
    guard.read(tokens)
    assert sum(map(len, guard._places.values())) == len(guard._latest) <= length // COPIES
    assert len(guard._runs) <= length // COPIES


@pytest.mark.parametrize(
    ("text", "ends"), [("abcabcabc", 9), ("xxabcabcabcabc", 11), ("abcabcab", None), ("aaaaaaaaa", 9)]
)
def test_three_copies_are_a_loop_and_two_are_none(text: str, ends: int | None) -> None:
    assert RepeatGuard(9).read(text.encode()) == ends

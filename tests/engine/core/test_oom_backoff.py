"""The engine holds less memory for a while after an allocation failed. Time is a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.core.oom_backoff import LASTS_S, LONGEST_S, OomBackoff, out_of_memory
from mlx_sidecar_protocol.errors import ModelLoadFailed, OutOfMemory


def test_a_ceiling_is_lifted_by_itself() -> None:
    ceiling = OomBackoff()
    ceiling.lower(1000, 100, now=5.0)
    assert ceiling.limit_bytes == 900
    assert ceiling.until_s == 5.0 + LASTS_S
    ceiling.lift(5.0 + LASTS_S - 1)
    assert ceiling.limit_bytes == 900
    ceiling.lift(5.0 + LASTS_S)
    assert ceiling.until_s == float("inf")
    ceiling.lower(2000, 100, now=1000.0)
    assert ceiling.limit_bytes == 1900, "nothing is left of the one before"


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**9)), min_size=1))
def test_while_it_is_in_force_it_only_falls(failures: list[tuple[int, int]]) -> None:
    ceiling, before = OomBackoff(), 10**9
    for held_bytes, less_bytes in failures:
        ceiling.lower(held_bytes, less_bytes, 0.0)
        assert ceiling.limit_bytes is not None
        assert 0 <= ceiling.limit_bytes <= min(before, max(0, held_bytes - less_bytes))
        before = ceiling.limit_bytes


def test_memory_that_does_not_come_back_is_tried_half_as_often_each_time_and_anew_once_it_has() -> None:
    ceiling, now, lasted = OomBackoff(), 0.0, []
    for pause_s in (1.0, 1.0, 1.0, 10 * LASTS_S, 1.0):
        ceiling.lower(1000, 100, now)
        lasted.append(ceiling.until_s - now)
        ceiling.lift(ceiling.until_s)
        now += lasted[-1] + pause_s
    assert lasted == [LASTS_S, 2 * LASTS_S, 4 * LASTS_S, 8 * LASTS_S, LASTS_S]


def test_no_ceiling_lasts_longer_than_a_quarter_of_an_hour() -> None:
    ceiling, now = OomBackoff(), 0.0
    for _ in range(20):
        ceiling.lower(1000, 100, now)
        assert ceiling.until_s - now <= LONGEST_S
        now = ceiling.until_s
        ceiling.lift(now)
    assert LONGEST_S == 900.0


@pytest.mark.parametrize(
    ("error", "numbers"),
    [
        (RuntimeError("[malloc] Unable to allocate 987 bytes."), (987, 500)),
        (RuntimeError("[metal::malloc] Attempting to allocate 98 bytes which is greater than the maximum."), (98, 97)),
        (RuntimeError("cudaMallocAsync(&p, n, s) failed: out of memory"), (0, 0)),
        (MemoryError(), (0, 0)),
        (OutOfMemory(need_bytes=2, have_bytes=1), (2, 1)),
    ],
)
def test_an_allocation_that_failed_is_known_by_what_it_says_and_has_less_than_it_wanted(
    error: Exception, numbers: tuple[int, int]
) -> None:
    typed = out_of_memory(error, 500)
    assert typed is not None
    assert (typed.details["need_bytes"], typed.details["have_bytes"]) == numbers


def test_an_allocation_that_failed_is_known_through_what_was_made_of_it() -> None:
    wrapped = ModelLoadFailed("m", "its first token failed")
    assert out_of_memory(wrapped, 0) is None
    wrapped.__cause__ = RuntimeError("[malloc] Unable to allocate 5 bytes.")
    assert out_of_memory(wrapped, 0) is not None

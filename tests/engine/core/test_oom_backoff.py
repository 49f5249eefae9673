"""How long less is held than when an allocation failed. Time is a number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.core.oom_backoff import LASTS_S, LONGEST_S, Ceiling


def test_a_ceiling_is_lifted_by_itself() -> None:
    ceiling = Ceiling()
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
    ceiling, before = Ceiling(), 10**9
    for held_bytes, less_bytes in failures:
        ceiling.lower(held_bytes, less_bytes, 0.0)
        assert ceiling.limit_bytes is not None
        assert 0 <= ceiling.limit_bytes <= min(before, max(0, held_bytes - less_bytes))
        before = ceiling.limit_bytes


def test_memory_that_does_not_come_back_is_tried_half_as_often_each_time_and_anew_once_it_has() -> None:
    ceiling, now, lasted = Ceiling(), 0.0, []
    for pause_s in (1.0, 1.0, 1.0, 10 * LASTS_S, 1.0):
        ceiling.lower(1000, 100, now)
        lasted.append(ceiling.until_s - now)
        ceiling.lift(ceiling.until_s)
        now += lasted[-1] + pause_s
    assert lasted == [LASTS_S, 2 * LASTS_S, 4 * LASTS_S, 8 * LASTS_S, LASTS_S]


def test_no_ceiling_lasts_longer_than_a_quarter_of_an_hour() -> None:
    ceiling, now = Ceiling(), 0.0
    for _ in range(20):
        ceiling.lower(1000, 100, now)
        assert ceiling.until_s - now <= LONGEST_S
        now = ceiling.until_s
        ceiling.lift(now)
    assert LONGEST_S == 900.0

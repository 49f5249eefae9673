from __future__ import annotations

import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serving.figures import Comparison, milliseconds, percentile, poisson, ratio

values = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


def test_percentiles_are_values_that_were_measured() -> None:
    measured = [30.0, 10.0, 20.0, 40.0]
    assert [percentile(measured, p) for p in (0, 25, 26, 50, 75, 99, 100)] == [10, 10, 20, 20, 30, 40, 40]


def test_a_percentile_may_be_never() -> None:
    assert percentile([0.1] * 98 + [math.inf] * 2, 98) == 0.1
    assert percentile([0.1] * 98 + [math.inf] * 2, 99) == math.inf


@given(values, st.floats(0, 100))
def test_enough_values_do_not_exceed_a_percentile(measured: list[float], percent: float) -> None:
    found = percentile(measured, percent)
    assert found in measured
    assert sum(value <= found for value in measured) >= percent / 100 * len(measured) - 1e-9
    assert sum(value < found for value in measured) < max(1, percent / 100 * len(measured) + 1e-9)


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="50th percentile of 0"):
        percentile([], 50)


def test_a_machine_that_slows_down_does_not_change_a_ratio() -> None:
    found = ratio([100, 50, 10], [50, 25, 5])
    assert (found.ratio, found.least, found.most) == (2, 2, 2)
    assert (found.ours, found.peer) == (50, 25)


def test_a_ratio_is_the_median_of_rounds_with_its_range() -> None:
    assert str(ratio([1, 2, 9], [1, 1, 3])) == "2.00× (1.00 to 3.00)"


def test_rounds_must_pair() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        ratio([1, 2], [1])
    with pytest.raises(ValueError, match="no rounds"):
        ratio([], [])


@given(st.floats(0.5, 50), st.floats(0.1, 20), st.integers(0, 2**32))
def test_arrivals_ascend_within_their_time_and_can_be_had_again(rate: float, duration: float, seed: int) -> None:
    times = poisson(rate, duration, seed)
    assert times == sorted(times) == poisson(rate, duration, seed)
    assert all(0 <= time < duration for time in times)


def test_arrivals_come_at_their_rate_and_independently() -> None:
    times = poisson(10, 2000, seed=1)
    gaps = [after - before for before, after in pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(0.1, rel=0.03)
    # Of an exponential distribution the standard deviation is the mean.
    assert statistics.stdev(gaps) == pytest.approx(0.1, rel=0.03)


def test_tokens_after_the_first_difference_are_not_compared() -> None:
    found = Comparison()
    found.add([1, 2, 3, 4], [1, 9, 8, 7])
    found.add([1, 2], [1, 2])
    assert (found.compared, found.differing) == (4, 1)
    assert found.per_million == 250_000


def test_what_never_came_is_told_in_words() -> None:
    assert [milliseconds(s) for s in (0.00123, 0.0999, 1.5, math.inf)] == ["1.2 ms", "99.9 ms", "1500 ms", "never"]

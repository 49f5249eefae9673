"""A cost that grows with depth is learned from measurements at any depths: numbers alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.scheduling.depth_cost import DOUBT, NOISE, OUTLIER, TRIALS, DepthCost

bases = st.floats(1e-5, 1e-1)
steepnesses = st.floats(0.0, 4.0)
UNIT = 1000
depths = st.integers(0, 32_768)


class Line:
    """A cost that is known."""

    def __init__(self, base: float, steepness: float) -> None:
        self.base, self.slope = base, steepness * base

    def at(self, depth: float) -> float:
        return self.base + self.slope * depth / UNIT


def learn(cost: DepthCost, depth: int, value: float) -> None:
    cost.learn(depth, value, NOISE * value)


@given(bases, steepnesses, st.integers(0, 1000))
def test_a_prompt_that_gets_deeper_step_by_step_leaves_a_line_that_is_right_at_any_depth(
    base: float, steepness: float, seed: int
) -> None:
    line, cost, source = Line(base, steepness), DepthCost(UNIT, 1.0), random.Random(seed)
    for depth in range(32, 16_384, 64):
        learn(cost, depth, line.at(depth) * max(0.5, source.gauss(1.0, 0.05)))
    for depth in (4_096, 16_384, 32_768):
        assert cost.at(depth) == pytest.approx(line.at(depth), rel=0.3)
    assert cost.at(0) <= base + line.at(16_384) / 8, "at most the noise of the deep steps"


@given(bases, steepnesses, depths, depths)
def test_measurements_at_two_depths_in_turn_leave_a_line_that_is_about_right_at_both(
    base: float, steepness: float, one: int, other: int
) -> None:
    line, cost = Line(base, steepness), DepthCost(UNIT, 1.0)
    for _ in range(60):
        learn(cost, one, line.at(one))
        learn(cost, other, line.at(other))
    for depth in (one, other):
        assert cost.at(depth) == pytest.approx(line.at(depth), rel=0.3)


@given(st.lists(st.tuples(depths, st.floats(1e-9, 1e3)), min_size=1, max_size=100), depths)
def test_whatever_is_measured_all_estimates_are_positive_and_grow_with_depth(
    measured: list[tuple[int, float]], depth: int
) -> None:
    cost = DepthCost(UNIT, 1.0)
    for at, value in measured:
        learn(cost, at, value)
        assert 0 < cost.base <= cost.at(depth) <= cost.at(depth + 1000) < float("inf")
        assert min(value, cost.at(at)) > 0


@given(bases, steepnesses, st.floats(OUTLIER, 1e6), st.integers(TRIALS, 60))
def test_an_outlier_moves_no_estimate_far_and_is_forgotten(
    base: float, steepness: float, slower: float, before: int
) -> None:
    line, cost = Line(base, steepness), DepthCost(UNIT, 0.0)
    for nth in range(before):
        learn(cost, 64 * nth, line.at(64 * nth))
    learn(cost, 64 * before, slower * line.at(64 * before))
    assert cost.at(64 * before) <= OUTLIER * line.at(64 * before) * 1.5
    last = 64 * (before + 25)
    for depth in range(64 * before, last + 1, 64):
        learn(cost, depth, line.at(depth))
    assert cost.at(last) == pytest.approx(line.at(last), rel=0.15)


@given(bases, st.floats(1.0, 1e4))
def test_a_first_step_that_compiles_counts_for_nothing(base: float, slower: float) -> None:
    cost = DepthCost(UNIT, 1.0)
    learn(cost, 32, base * slower)
    learn(cost, 96, base)
    assert cost.at(64) == pytest.approx(base, rel=0.1)


@given(bases, st.floats(1.1, 50), st.booleans())
def test_a_machine_that_stays_slower_or_faster_is_so_at_all_depths(base: float, factor: float, slower: bool) -> None:
    line, cost = Line(base, 1.0), DepthCost(UNIT, 1.0)
    for depth in list(range(0, 16_384, 128)):
        learn(cost, depth, line.at(depth))
    factor = factor if slower else 1 / factor
    for _ in range(60):
        learn(cost, 16_384, factor * line.at(16_384))
    assert cost.at(16_384) == pytest.approx(factor * line.at(16_384), rel=0.1)
    ratio = cost.at(0) / base
    assert ratio > 1.05 if slower else ratio < 1.0, "also where it was not measured"


@given(bases, st.integers(512, 8192))
def test_a_cost_that_stops_growing_is_followed(base: float, window: int) -> None:
    line, cost = Line(base, 1.0), DepthCost(UNIT, 1.0)
    for depth in range(32, 32_768, 64):
        learn(cost, depth, line.at(min(depth, window)))
    assert cost.at(32_768) == pytest.approx(line.at(window), rel=0.15)
    for _ in range(8):
        learn(cost, 16, line.at(16))
    assert cost.at(16) == pytest.approx(line.at(16), rel=0.25)


def test_an_estimate_far_from_what_was_measured_is_a_guess_until_it_is_measured_once() -> None:
    cost = DepthCost(UNIT, 0.0)
    for _ in range(10):
        learn(cost, 500, 0.01)
    assert cost.known(500)
    assert cost.known(700)
    assert not cost.known(16_000)
    learn(cost, 16_000, 0.03)
    assert cost.known(16_000)
    assert cost.known(8_000)


@given(st.lists(st.tuples(depths, st.floats(1e-9, 1e3)), min_size=TRIALS, max_size=100))
def test_one_measurement_makes_an_estimate_more_than_a_guess(measured: list[tuple[int, float]]) -> None:
    cost = DepthCost(UNIT, 0.0)
    for nth, (depth, value) in enumerate(measured):
        learn(cost, depth, value)
        assert cost.known(depth) == (nth + 1 >= TRIALS), f"within {DOUBT} of it"


@given(bases, steepnesses, depths, st.floats(1e-4, 10))
def test_as_many_tokens_fit_into_a_time_as_cost_it_together(
    base: float, steepness: float, depth: int, seconds: float
) -> None:
    cost = DepthCost(UNIT, 0.0, base, steepness * base, TRIALS)
    tokens = cost.tokens_within(seconds, depth)
    assert tokens * cost.at(depth + tokens / 2) == pytest.approx(seconds)
    assert cost.tokens_within(0.0, depth) == cost.tokens_within(-1.0, depth) == 0.0

"""The arithmetic of how long an operation may take is right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.heartbeat import FACTOR, RESTED_S, UNMEASURED_S, StallDeadline
from mlx_sidecar.engine.scheduling.depth_cost import TRIALS
from mlx_sidecar.engine.scheduling.step_cost_model import StepCostModel, StepLoad
from mlx_sidecar.link.engine_config import EngineConfig
from tests.engine.inline import Inline

seconds = st.floats(1e-6, 1e4)
sizes = st.integers(0, 1 << 40)


@given(seconds, st.none() | seconds, sizes)
def test_no_bound_is_below_the_floor_or_a_measured_step_with_its_factor(
    floor_s: float, expected_s: float | None, size_bytes: int
) -> None:
    bound_s = StallDeadline(floor_s).step_s(expected_s, size_bytes)
    assert bound_s >= floor_s
    assert expected_s is None or bound_s == max(floor_s, FACTOR * expected_s)


@given(sizes, sizes)
def test_more_to_read_may_take_longer(less: int, more: int) -> None:
    less, more = sorted((less, more))
    assert StallDeadline(10.0).unmeasured_s(0) == UNMEASURED_S
    assert StallDeadline(10.0).unmeasured_s(less) <= StallDeadline(10.0).unmeasured_s(more)


def test_a_low_floor_lowers_what_nothing_was_measured_for_and_a_high_one_raises_it() -> None:
    assert StallDeadline(1.0).step_s(None, 100_000_000) == 6.0 + 1.0
    assert StallDeadline(90.0).step_s(None, 0) == 90.0


@given(st.integers(0, 32), st.integers(0, 512), st.floats(1e-6, 0.1), st.floats(1e-3, 1.0))
def test_a_step_is_expected_to_take_what_its_parts_took_and_nothing_is_expected_of_what_was_never_seen(
    rows: int, tokens: int, decode_s: float, token_s: float
) -> None:
    pace = StepCostModel()
    assert (pace.expected_s(StepLoad(rows, 0, tokens)) is None) == bool(rows or tokens)
    for _ in range(TRIALS):
        pace.learn(StepLoad(max(1, rows)), decode_s)
    assert (pace.expected_s(StepLoad(rows, 0, tokens)) is None) == bool(tokens)
    pace.learn(StepLoad(0, 0, 100), 100 * token_s + (decode_s if rows <= 1 else 0.0))
    expected_s = pace.expected_s(StepLoad(rows, 0, tokens))
    assert expected_s is not None
    assert expected_s <= 1.01 * (decode_s + tokens * token_s)
    assert rows == 0 or expected_s >= 0.99 * decode_s


def test_a_step_of_a_model_that_has_rested_for_long_may_take_as_long_as_its_first() -> None:
    inline, model = Inline(1 << 30), "fake?memory_bytes=100000000"
    inline.load(model)
    bounds = []
    for seq, pause_s in enumerate((0.0, RESTED_S / 2, 2 * RESTED_S)):
        inline.now += pause_s
        inline.submit(seq, model)
        while not inline.tokens(seq):
            inline.turn()
        bounds.append(inline.page.read().bound_s)
        inline.settle()
    assert bounds == [UNMEASURED_S + 1.0, EngineConfig.stall_after_s, UNMEASURED_S + 1.0]
    inline.close()

"""The sampling kernels of all instruction sets, against numpy and against each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlx_sidecar_native import _native

cpu = _native.cpu
SETS = cpu.kernel_sets()
FUSED = [name for name in SETS if name != "baseline"]  # their multiplications and additions are one operation
Told = tuple[int, float, tuple[float, list[tuple[int, float]]]]
Row = NDArray[np.float32]


@pytest.fixture(autouse=True)
def set_in_use() -> Iterator[None]:
    before = cpu.kernels()
    yield
    cpu.use_kernels(before)


def told(logits: Row, *setting: float, key: tuple[int, int] = (0, 0)) -> Told:
    """The choice for a row of `setting`: temperature, top-k, top-p, floor; with five alternatives where there are."""
    row: Any = (*setting, min(5, len(logits)), -1)
    tokens, peaks, logprobs = cpu.SamplingPlan(len(logits), [row]).sample(logits[None], None, [key])
    return int(tokens[0]), float(peaks[0]), logprobs[0]


def by_each(names: list[str], work: Callable[[], Told]) -> list[Told]:
    results = []
    for name in names:
        assert cpu.use_kernels(name)
        results.append(work())
    return results


sizes = st.one_of(st.integers(1, 140), st.sampled_from([1023, 1024, 1025, 3000, 5003]))
spreads = st.sampled_from([0.0, 0.01, 1.0, 4.0, 30.0])
choices = st.tuples(
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.sampled_from([0, 1, 5, 60, 900]),
    st.one_of(st.just(1.0), st.floats(0.0, 1.0)),
    st.sampled_from([-math.inf, -3.0, 0.0]),
)
words = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))


@settings(max_examples=200)
@given(sizes, spreads, st.integers(0, 2**32 - 1), choices, words)
def test_all_sets_with_fused_operations_give_the_same_bits(
    size: int, spread: float, seed: int, choice: tuple[float, int, float, float], key: tuple[int, int]
) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, size).astype(np.float32)
    temperature, top_k, top_p, floor = choice
    results = by_each(FUSED, lambda: told(logits, temperature, min(top_k, size - 1), top_p, floor, key=key))
    assert all(result == results[0] for result in results)


@settings(max_examples=60)
@given(sizes, spreads, st.integers(0, 2**32 - 1), st.booleans(), st.integers(0, 4))
def test_every_set_tells_the_likeliest_in_order_and_their_logprobs(
    size: int, spread: float, seed: int, whole: bool, infinite: int
) -> None:
    """With `whole` numbers many are equal, and 0 has both signs."""
    logits = np.random.default_rng(seed).normal(0, spread, size).astype(np.float32)
    if whole:
        logits = np.round(logits)
    logits[1 : 1 + infinite] = -math.inf
    doubles = logits.astype(np.float64)
    expected = doubles - doubles.max() - np.log(np.exp(doubles - doubles.max()).sum())
    ranked = sorted(range(size), key=lambda token: (-doubles[token], token))[:5]
    for token, peak, (logprob, top) in by_each(SETS, lambda: told(logits, 0.0, 0, 1.0, -math.inf)):
        assert token == ranked[0]
        assert peak == doubles.max()
        assert logprob == pytest.approx(expected[token], abs=2e-5)
        assert [other for other, _ in top] == ranked
        assert [value for _, value in top] == pytest.approx(expected[ranked], abs=2e-5)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_number_that_is_none_is_seen_wherever_it_stands(name: str, wrong: float) -> None:
    cpu.use_kernels(name)
    for size in (1, 7, 8, 31, 32, 100, 1025, 2100):
        for place in {0, size // 3, size - 2, size - 1} - {-1}:
            logits = np.linspace(-3, 3, size, dtype=np.float32)
            logits[place] = wrong
            token, peak, (logprob, top) = told(logits, 1.0, 0, 0.9, -math.inf)
            assert token == place
            assert math.isnan(peak) if math.isnan(wrong) else peak == math.inf
            assert math.isnan(logprob)
            assert not top


@pytest.mark.parametrize("name", SETS)
def test_a_long_row_of_one_value_is_summed_to_six_digits(name: str) -> None:
    cpu.use_kernels(name)
    logits = np.full(151_936, 0.3, np.float32)
    assert told(logits, 0.0, 0, 1.0, -math.inf)[2][0] == pytest.approx(-math.log(151_936), rel=1e-6)
    logits = np.random.default_rng(0).normal(0, 1, 151_936).astype(np.float32)
    doubles = logits.astype(np.float64)
    expected = doubles.max() - math.log(np.exp(doubles).sum())
    assert told(logits, 0.0, 0, 1.0, -math.inf)[2][0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("row", [(1.0, 8, 1.0, 0.0, -1, -1), (1.0, -1, 1.0, 0.0, -1, -1), (1.0, 0, 1.0, 0.0, 9, -1)])
def test_settings_beyond_the_vocabulary_are_refused(row: tuple[float, int, float, float, int, int]) -> None:
    with pytest.raises(ValueError, match="within the vocabulary"):
        cpu.SamplingPlan(8, [row])


def test_every_row_has_a_key_and_changed_rows_have_logits() -> None:
    logits = np.zeros((1, 8), np.float32)
    with pytest.raises(ValueError, match="one key"):
        cpu.SamplingPlan(8, [(1.0, 0, 1.0, 0.0, -1, -1)]).sample(logits, None, [])
    with pytest.raises(ValueError, match="no changed logits"):
        cpu.SamplingPlan(8, [(1.0, 0, 1.0, 0.0, -1, 0)]).sample(logits, None, [(0, 0)])

"""A decoder's operations on single tokens, against float64, over tails, ends of arrays and what is not finite."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from math import erf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlx_sidecar_native._native import cpu
from tests.support.guarded import guarded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages are guarded by Linux")

Array = NDArray[np.float32]
Exact = NDArray[np.float64]
WITH_FMA = [name for name in cpu.kernel_sets() if name != "baseline"]

hypothesis_cases = settings(max_examples=60, deadline=None)
sizes = st.one_of(st.integers(1, 70), st.sampled_from([128, 576, 1536]))
magnitudes = st.sampled_from([1e-20, 1e-3, 1.0, 30.0, 1e6])
seeds = st.integers(0, 2**16)
sides = st.booleans()


@pytest.fixture(autouse=True)
def same_kernels_afterwards() -> Iterator[None]:
    before = cpu.kernels()
    yield
    cpu.use_kernels(before)


def numbers(size: int, magnitude: float, seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, magnitude, size).astype(np.float32)


def with_each_set(compute: Callable[[], Array]) -> Iterator[Array]:
    """Yield the result of each set of kernels; those with FMA agree to the bit."""
    agreed: Array | None = None
    for name in cpu.kernel_sets():
        assert cpu.use_kernels(name)
        result = compute()
        if name in WITH_FMA:
            agreed = result if agreed is None else agreed
            assert np.array_equal(agreed.view(np.uint32), result.view(np.uint32)) or np.isnan(result).any()
        yield result


@hypothesis_cases
@given(size=sizes, magnitude=magnitudes, seed=seeds, weighted=st.booleans(), at_start=sides)
def test_rms_norm(size: int, magnitude: float, seed: int, weighted: bool, at_start: bool) -> None:
    x = guarded(numbers(size, magnitude, seed), at_start=at_start)
    weight = guarded(numbers(size, 1.0, seed + 1), at_start=at_start) if weighted else None
    epsilon = float(np.float32(1e-5))

    def compute() -> Array:
        out = guarded(np.zeros(size, dtype=np.float32), at_start=at_start)
        cpu.rms_norm(x, weight, epsilon, out)
        return out

    exact = x.astype(np.float64) / np.sqrt(np.mean(x.astype(np.float64) ** 2) + epsilon)
    for result in with_each_set(compute):
        np.testing.assert_allclose(result, exact if weight is None else exact * weight, rtol=2e-6, atol=1e-37)


def test_rms_norm_in_place() -> None:
    x = numbers(77, 1.0, 0)
    out = np.zeros_like(x)
    cpu.rms_norm(x, None, 0.1, out)
    cpu.rms_norm(x, None, 0.1, x)
    assert (x == out).all()


@hypothesis_cases
@given(
    heads=st.integers(1, 4),
    pairs=st.integers(1, 40),
    rest=st.integers(0, 20),
    traditional=st.booleans(),
    seed=seeds,
    at_start=sides,
)
def test_rotate(heads: int, pairs: int, rest: int, traditional: bool, seed: int, at_start: bool) -> None:
    size = 2 * pairs + rest
    x = numbers(heads * size, 1.0, seed).reshape(heads, size)
    angles = np.random.default_rng(seed).uniform(0, 1000, pairs)
    cosines, sines = (guarded(f(angles).astype(np.float32), at_start=at_start) for f in (np.cos, np.sin))

    def compute() -> Array:
        turned = guarded(x, at_start=at_start)
        cpu.rotate(turned, cosines, sines, traditional)
        return turned

    exact = x.astype(np.float64)
    first, second = (slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)) if traditional else (
        slice(0, pairs), slice(pairs, 2 * pairs),
    )  # fmt: skip
    a, b = exact[:, first].copy(), exact[:, second].copy()
    exact[:, first], exact[:, second] = a * cosines - b * sines, a * sines + b * cosines
    for result in with_each_set(compute):
        np.testing.assert_allclose(result, exact, rtol=0, atol=1e-6)
        assert (result[:, 2 * pairs :] == x[:, 2 * pairs :]).all()


def sigmoid(x: Exact) -> Exact:
    return np.exp(-np.logaddexp(0.0, -x))


ACTIVATIONS: dict[str, Callable[[Exact], Exact]] = {
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: x * np.array([1 + erf(v / 2**0.5) for v in x]) / 2,
    "gelu_tanh": lambda x: x * sigmoid(2 * (2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@hypothesis_cases
@given(size=sizes, magnitude=magnitudes, seed=seeds, at_start=sides)
def test_gated(activation: str, size: int, magnitude: float, seed: int, at_start: bool) -> None:
    gate, up = (guarded(numbers(size, m, seed + i), at_start=at_start) for i, m in enumerate((magnitude, 1.0)))

    def compute() -> Array:
        out = guarded(np.zeros(size, dtype=np.float32), at_start=at_start)
        cpu.gated(activation, gate, up, out)
        return out

    exact = ACTIVATIONS[activation](gate.astype(np.float64)) * up
    for result in with_each_set(compute):
        np.testing.assert_allclose(result, exact, rtol=2e-6, atol=1e-6 * float(abs(up).max()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "x", [-200.0, -90.0, -88.5, -20.0, -6.0, -0.5, -1e-30, 0.0, 1e-30, 0.5, 6.0, 20.0, 88.5, 200.0]
)
def test_gated_at_the_ends(activation: str, x: float) -> None:
    gate, one = np.full(17, x, dtype=np.float32), np.ones(17, dtype=np.float32)

    def compute() -> Array:
        out = np.empty_like(gate)
        cpu.gated(activation, gate, one, out)
        return out

    for result in with_each_set(compute):
        np.testing.assert_allclose(result, ACTIVATIONS[activation](gate.astype(np.float64)), rtol=2e-6, atol=1e-6)


@hypothesis_cases
@given(size=sizes, magnitude=magnitudes, seed=seeds, most=st.sampled_from([1.0, 30.0, 50.0]), at_start=sides)
def test_cap(size: int, magnitude: float, seed: int, most: float, at_start: bool) -> None:
    x = numbers(size, magnitude, seed)

    def compute() -> Array:
        capped = guarded(x, at_start=at_start)
        cpu.cap(capped, most)
        return capped

    for result in with_each_set(compute):
        np.testing.assert_allclose(result, most * np.tanh(x.astype(np.float64) / most), rtol=0, atol=3e-7 * most)
        assert (abs(result) <= most).all()


@hypothesis_cases
@given(size=sizes, seed=seeds, scale=st.sampled_from([1.0, -0.3, 0.0]), at_start=sides)
def test_add_scaled(size: int, seed: int, scale: float, at_start: bool) -> None:
    x, y = numbers(size, 1.0, seed), guarded(numbers(size, 1.0, seed + 1), at_start=at_start)

    def compute() -> Array:
        total = guarded(x, at_start=at_start)
        cpu.add_scaled(total, y, scale)
        return total

    for result in with_each_set(compute):
        np.testing.assert_allclose(result, x + np.float64(np.float32(scale)) * y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernels", cpu.kernel_sets())
@pytest.mark.parametrize("place", [0, 7, 8, 15, 16, 18])
def test_nan_comes_through_where_it_is(kernels: str, place: int) -> None:
    assert cpu.use_kernels(kernels)
    clean, bad = np.ones(19, dtype=np.float32), np.ones(19, dtype=np.float32)
    bad[place] = np.nan
    for activation in ACTIVATIONS:
        for gate, up in ((bad, clean), (clean, bad)):
            out = np.zeros_like(clean)
            cpu.gated(activation, gate, up, out)
            assert (np.isnan(out) == np.isnan(bad)).all()
    capped, added = bad.copy(), bad.copy()
    cpu.cap(capped, 30.0)
    cpu.add_scaled(added, clean, 0.5)
    assert (np.isnan(capped) == np.isnan(bad)).all()
    assert (np.isnan(added) == np.isnan(bad)).all()
    out = np.zeros_like(clean)
    cpu.rms_norm(bad, clean, 1e-5, out)
    assert np.isnan(out).all()
    cpu.rms_norm(clean, bad, 1e-5, out)
    assert (np.isnan(out) == np.isnan(bad)).all()

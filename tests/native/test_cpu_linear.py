"""Products of stored weights: what they compute, and what their bits depend on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlx_sidecar_native._native import cpu
from tests.support.guarded import guarded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages are guarded by Linux")

Array = NDArray[np.float32]
SETS = cpu.kernel_sets()
# Sets with fused multiplication and addition agree in every bit; the baseline has it only where every processor has.
FUSED = [name for name in SETS if name != "baseline"]
FORMATS = ["float32", "float16", "bfloat16", "q4", "q8"]
TOKENS = [1, 2, 3, 4, 5, 7, 8, 9, 13, 70]


@pytest.fixture(autouse=True)
def same_kernels_afterwards() -> Iterator[None]:
    before = cpu.kernels()
    yield
    cpu.use_kernels(before)


@dataclass(frozen=True)
class Case:
    """Weights of `rows` rows and `steps` times the fewest columns; `spread` is the size of the scales."""

    format: str
    rows: int = 9
    steps: int = 3
    group: int = 64
    scale_format: str = "float16"
    spread: float = 1.0
    seed: int = 0

    @property
    def quantised(self) -> bool:
        return self.format in ("q4", "q8")

    @property
    def columns(self) -> int:
        step = {"float32": 8, "float16": 8, "bfloat16": 16, "q4": 64, "q8": 32}[self.format]
        return self.steps * max(step, self.group if self.quantised else 0)


@dataclass(frozen=True)
class Stored:
    """Weights in memory and, in float64, what they stand for."""

    weights: cpu.Matrix
    values: NDArray[np.float64]
    memory: list[NDArray[Any]]


cases = st.builds(
    Case,
    format=st.sampled_from(FORMATS),
    rows=st.integers(1, 41),
    steps=st.integers(1, 5),
    group=st.sampled_from([32, 64, 128]),
    scale_format=st.sampled_from(["float32", "float16", "bfloat16"]),
    seed=st.integers(0, 2**32 - 1),
)


def halves(x: Array) -> NDArray[Any]:
    """The upper halves of floats: bfloat16, rounded to zero."""
    return (x.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def encoded(x: Array, kind: str) -> tuple[NDArray[Any], Array]:
    """Numbers as a format of floats stores them, and as float32 again."""
    if kind == "float32":
        return x, x
    if kind == "float16":
        with np.errstate(over="ignore"):
            stored = x.astype(np.float16)
        return stored.view(np.uint16), stored.astype(np.float32)
    stored = halves(x)
    return stored, (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def stored(case: Case) -> Stored:
    """Random weights; every buffer ends beside a forbidden page."""
    rng = np.random.default_rng(case.seed)
    shape = (case.rows, case.columns)
    if not case.quantised:
        numbers = (rng.standard_normal(shape) * case.spread).astype(np.float32)
        raw, values = encoded(numbers, case.format)
        memory = [beside(raw)]
        return Stored(cpu.Matrix(case.format, case.rows, case.columns, memory[0]), values.astype(np.float64), memory)
    bits = 4 if case.format == "q4" else 8
    integers = rng.integers(0, 2**bits, shape, dtype=np.uint8)
    packed = integers if bits == 8 else integers[:, 0::2] | integers[:, 1::2] << 4
    groups = (case.rows, case.columns // case.group)
    scales, biases = (
        encoded((rng.standard_normal(groups) * case.spread).astype(np.float32), case.scale_format) for _ in range(2)
    )
    # In float64 the product is exact, and so is the sum but for a last bit far below float32's.
    wide = integers * np.repeat(scales[1].astype(np.float64), case.group, 1)
    values = (wide + np.repeat(biases[1].astype(np.float64), case.group, 1)).astype(np.float32)
    weight, scale, bias = memory = [beside(part) for part in (packed, scales[0], biases[0])]
    matrix = cpu.Matrix(
        case.format,
        case.rows,
        case.columns,
        weight,
        scale,
        bias,
        group=case.group,
        scale_format=case.scale_format,
    )
    return Stored(matrix, values.astype(np.float64), memory)


def beside(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that ends at a forbidden page."""
    raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    padded = np.zeros(-(-raw.size // 4) * 4, np.uint8)
    padded[padded.size - raw.size :] = raw
    return guarded(padded.view(np.float32)).view(np.uint8)[padded.size - raw.size :]


def random_x(case: Case, tokens: int) -> Array:
    return np.random.default_rng(case.seed + 1).standard_normal((tokens, case.columns)).astype(np.float32)


def multiply(stored: Stored, x: Array, arithmetic: str = "exact", parts: int = 1) -> Array:
    rows = stored.weights.rows
    out = guarded(np.full((len(x), rows), np.nan, np.float32))
    for part in range(parts):
        cpu.multiply(stored.weights, guarded(x), out, arithmetic, part * rows // parts, (part + 1) * rows // parts)
    return np.array(out)


def assert_close(actual: Array, values: NDArray[np.float64], x: Array, tolerance: float) -> None:
    wide = x.astype(np.float64)
    assert np.all(np.abs(actual - wide @ values.T) <= tolerance * (np.abs(wide) @ np.abs(values).T) + 1e-37)


@settings(max_examples=60)
@given(case=cases, tokens=st.sampled_from(TOKENS), name=st.sampled_from(SETS))
def test_a_product_is_that_of_the_dequantised_weights(case: Case, tokens: int, name: str) -> None:
    assert cpu.use_kernels(name)
    weights, x = stored(case), random_x(case, tokens)
    assert_close(multiply(weights, x), weights.values, x, 1e-6)


@settings(max_examples=60)
@given(case=cases, name=st.sampled_from(FUSED or SETS), arithmetic=st.sampled_from(["exact", "fast", "int8"]))
def test_bits_do_not_depend_on_other_tokens_or_on_shares_of_rows(case: Case, name: str, arithmetic: str) -> None:
    assert cpu.use_kernels(name)
    weights, x = stored(case), random_x(case, 70)
    # Up to 2 tokens are multiplied by `fast` arithmetic, and up to 4 by that of `int8`, where it is asked for.
    most = {"exact": 70, "fast": 2, "int8": 4}[arithmetic]
    together = multiply(weights, x[:most], arithmetic)
    for tokens in [count for count in TOKENS if count <= most]:
        for first in range(0, most - tokens + 1, tokens):
            alone = multiply(weights, x[first : first + tokens], arithmetic, parts=3)
            np.testing.assert_array_equal(alone.view(np.uint32), together[first : first + tokens].view(np.uint32))


@settings(max_examples=60)
@given(
    case=cases,
    tokens=st.sampled_from(TOKENS),
    arithmetic=st.sampled_from(["exact", "fast", "int8"]),
    spread=st.sampled_from([1e-38, 1e-30, 1.0, 1e30]),
)
def test_instruction_sets_agree_in_every_bit(case: Case, tokens: int, arithmetic: str, spread: float) -> None:
    case = replace(case, spread=spread, scale_format="float32")
    weights, x = stored(case), random_x(case, tokens)
    results = []
    for name in FUSED:
        assert cpu.use_kernels(name)
        results.append(multiply(weights, x, arithmetic).view(np.uint32))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("group", [32, 64, 128])
def test_an_expanded_row_is_what_is_multiplied(name: str, kind: str, group: int) -> None:
    assert cpu.use_kernels(name)
    case = Case(kind, group=group)
    weights = stored(case)
    unit = np.eye(case.columns, dtype=np.float32)
    products = multiply(weights, unit)
    for row in range(case.rows):
        out = guarded(np.zeros(case.columns, np.float32))
        cpu.expand_row(weights.weights, row, out)
        np.testing.assert_array_equal(out, products[:, row])
        np.testing.assert_allclose(out, weights.values[row], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("kind", ["q4", "q8"])
@pytest.mark.parametrize(("arithmetic", "tolerance"), [("fast", 2e-6), ("int8", 1e-2)])
def test_other_arithmetics_stay_close(name: str, tokens: int, kind: str, arithmetic: str, tolerance: float) -> None:
    assert cpu.use_kernels(name)
    for group in (32, 64, 128):
        case = Case(kind, rows=33, group=group)
        weights, x = stored(case), random_x(case, tokens)
        # Terms cancel less than those of exact weights: number * scale and bias are added up by themselves.
        size = np.abs(weights.values) + 2 * np.abs(weights.values).max()
        wide = x.astype(np.float64)
        error = np.abs(multiply(weights, x, arithmetic) - wide @ weights.values.T)
        assert np.all(error <= tolerance * (np.abs(wide) @ size.T))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tokens", [1, 4, 9])
@pytest.mark.parametrize("arithmetic", ["exact", "fast", "int8"])
def test_activations_that_are_not_finite_come_through(
    name: str, kind: str, value: float, tokens: int, arithmetic: str
) -> None:
    assert cpu.use_kernels(name)
    case = Case(kind)
    weights, x = stored(case), random_x(case, tokens)
    x[tokens // 2, case.columns // 3] = value
    finite = np.isfinite(multiply(weights, x, arithmetic))
    assert not finite[tokens // 2].any()
    assert np.delete(finite, tokens // 2, axis=0).all()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", ["q4", "q8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("arithmetic", ["exact", "fast", "int8"])
def test_a_scale_that_is_not_finite_comes_through_in_its_row_only(
    name: str, kind: str, value: float, arithmetic: str
) -> None:
    assert cpu.use_kernels(name)
    case = Case(kind, scale_format="float32")
    for tokens in (1, 2, 4, 9):
        weights, x = stored(case), random_x(case, tokens)
        weights.memory[1].view(np.float32)[4 * case.columns // case.group + 1] = value
        finite = np.isfinite(multiply(weights, x, arithmetic))
        assert not finite[:, 4].any()
        assert np.delete(finite, 4, axis=1).all()


def test_what_does_not_fit_is_refused() -> None:
    words, scales = np.zeros(64, np.uint8), np.zeros(2, np.float32)
    matrix = cpu.Matrix("q4", 2, 64, words, scales, scales, 64)
    x, out = np.zeros((1, 64), np.float32), np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match="no such rows"):
        cpu.multiply(matrix, x, out, "exact", 0, 3)
    with pytest.raises(ValueError, match="x is not"):
        cpu.multiply(matrix, x[:, :32].copy(), out, "exact", 0, 2)
    with pytest.raises(ValueError, match="out is not"):
        cpu.multiply(matrix, x, out.T.copy(), "exact", 0, 2)
    doubles: Any = x.astype(np.float64)
    with pytest.raises(TypeError):
        cpu.multiply(matrix, doubles, out, "exact", 0, 2)
    with pytest.raises(ValueError, match="no such arithmetic"):
        cpu.multiply(matrix, x, out, "quick", 0, 2)

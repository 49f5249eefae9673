"""Blocks of GGUF in mlx's affine layout: the same numbers, to the bit."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.gguf.block_formats import FORMATS, GROUP, packed, quantized, to_affine, to_floats

AFFINE = {number: each for number, each in FORMATS.items() if each.affine is not None}
TWO_HALVES = {"Q4_1", "Q5_1", "Q4_K", "Q5_K"}
ROWS, BLOCKS = 3, 2


def _blocks(number: int, noise: bytes, halves: list[float]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Rows of blocks with any bytes for codes, and finite scales and offsets."""
    format_ = FORMATS[number]
    blocks = np.resize(np.frombuffer(noise, np.uint8), (ROWS * BLOCKS, format_.bytes)).copy()
    for place in range(2 if format_.name in TWO_HALVES else 1):
        given_ = np.resize(np.array(halves, "<f2"), (ROWS * BLOCKS, 1)) * (1 + place)
        blocks[:, 2 * place : 2 * place + 2] = given_.astype("<f2").view(np.uint8)
    return blocks.reshape(ROWS, -1)


def test_the_table_has_the_sizes_that_the_gguf_package_knows() -> None:
    for number, format_ in FORMATS.items():
        kind = GGMLQuantizationType(number)
        assert (kind.name, GGML_QUANT_SIZES[kind]) == (format_.name, (format_.weights, format_.bytes))


@pytest.mark.parametrize("number", AFFINE, ids=[each.name for each in AFFINE.values()])
@settings(max_examples=25, deadline=None)
@given(
    noise=st.binary(min_size=1, max_size=400), halves=st.lists(st.floats(-400, 400, width=16), min_size=1, max_size=6)
)
def test_moved_weights_are_those_of_the_gguf_package_and_of_mlx(number: int, noise: bytes, halves: list[float]) -> None:
    format_, rows = FORMATS[number], _blocks(number, noise, halves)
    affine = to_affine(format_, rows)
    np.testing.assert_array_equal(affine.unpacked(), dequantize(rows, GGMLQuantizationType(number)))
    parts = (mx.array(packed(affine.codes, format_.bits)), mx.array(affine.scales), mx.array(affine.biases))
    by_mlx = mx.dequantize(*parts, group_size=GROUP, bits=format_.bits)
    np.testing.assert_array_equal(np.array(by_mlx), affine.unpacked())
    if format_.half_is_exact:
        for numbers in (affine.scales, affine.biases):
            np.testing.assert_array_equal(numbers.astype(np.float16).astype(np.float32), numbers)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_numbers_are_read_as_they_are(kind: str) -> None:
    numbers = mx.random.normal((4, 32), key=mx.random.key(0)).astype(getattr(mx, kind))
    rows = np.array(numbers.view(mx.uint8))
    number = {"float32": 0, "float16": 1, "bfloat16": 30}[kind]
    np.testing.assert_array_equal(to_floats(FORMATS[number], rows), np.array(numbers.astype(mx.float32)))


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(1e-3, 100))
def test_weights_quantised_again_are_within_half_a_step(bits: int, seed: int, size: float) -> None:
    weights = np.random.default_rng(seed).normal(0, size, (3, 96)).astype(np.float32)
    grouped = weights.reshape(3, 3, GROUP)
    extent = grouped.max(axis=-1) - grouped.min(axis=-1)
    errors = np.abs(quantized(weights, bits).unpacked() - weights).reshape(3, 3, GROUP).max(axis=-1)
    # Half a step of codes, and what half precision takes of scale and bias.
    assert (errors <= extent / (2**bits - 1) / 2 + np.abs(grouped).max(axis=-1) * 2**-9).all()


def test_weights_that_are_all_one_stay_it() -> None:
    assert (quantized(np.full((2, 64), 0.5, np.float32), 4).unpacked() == 0.5).all()

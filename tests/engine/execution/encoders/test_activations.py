"""Activations of encoders by native code are those of mlx, and a number's does not depend on its company."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.execution.encoders.activations import PLAIN, activation

pytest.importorskip("mlx_sidecar_native._native")


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("shape", [(1, 7), (300, 384), (3, 65_537)])
def test_native_code_gives_what_mlx_gives(name: str, shape: tuple[int, int]) -> None:
    x = mx.random.normal(shape) * 4
    found, expected = (np.array(activation(name, native=native)(x)) for native in (True, False))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", PLAIN)
@given(rows=st.integers(1, 40), width=st.integers(1, 50), row=st.integers(0))
def test_a_row_has_the_bits_that_it_has_alone(name: str, rows: int, width: int, row: int) -> None:
    x = mx.random.normal((rows, width), key=mx.random.key(rows * 100 + width))
    apply = activation(name, native=True)
    row %= rows
    assert np.array(apply(x))[row].tobytes() == np.array(apply(x[row : row + 1])).tobytes()


def test_a_part_of_a_wider_array_is_read_as_it_lies() -> None:
    """ModernBERT's gate is half of a product."""
    gate, _ = mx.split(mx.random.normal((5, 64)), 2, axis=-1)
    np.testing.assert_allclose(
        np.array(activation("gelu", native=True)(gate)), np.array(PLAIN["gelu"](gate)), rtol=2e-6, atol=1e-6
    )


def test_half_precision_is_left_to_mlx() -> None:
    x = mx.random.normal((2, 8)).astype(mx.bfloat16)
    assert activation("gelu", native=True)(x).dtype == mx.bfloat16

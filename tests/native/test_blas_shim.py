"""The shim's products, forwarded and its own, against numpy: layouts, transpositions, scales, leading dimensions."""

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.blas_shim import COL_MAJOR, CONJ_TRANS, KERNELS, NO_TRANS, ROW_MAJOR, TRANS, bound_shim

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the shim is built on Linux only")

Array = NDArray[Any]


@pytest.fixture(scope="module", params=["forwarding", *KERNELS])
def shim(request: pytest.FixtureRequest) -> Iterator[ctypes.CDLL]:
    with bound_shim(None if request.param == "forwarding" else request.param) as library:
        yield library


@dataclass(frozen=True)
class Product:
    """C = alpha * op(A) @ op(B) + beta * C, with `pad` unused elements at the end of each stored row or column."""

    order: int
    trans_a: int
    trans_b: int
    m: int
    n: int
    k: int
    alpha: float
    beta: float
    pad: int
    seed: int


# One row, one column, and sizes that fill no vector or tile take other paths; 0 takes none.
sizes = st.sampled_from([0, 1, 1, 2, 3, 5, 17, 33, 65])
scales = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.25])
transpositions = st.sampled_from([NO_TRANS, TRANS, CONJ_TRANS])
products = st.builds(
    Product,
    order=st.sampled_from([ROW_MAJOR, COL_MAJOR]),
    trans_a=transpositions,
    trans_b=transpositions,
    m=sizes,
    n=sizes,
    k=sizes,
    alpha=scales,
    beta=scales,
    pad=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)


def stored(matrix: Array, order: int, pad: int) -> tuple[Array, int]:
    """Return the matrix as BLAS stores it, by row or column, NaN in the padding, and its leading dimension."""
    lines = matrix if order == ROW_MAJOR else matrix.T
    buffer = np.full((lines.shape[0], max(1, lines.shape[1]) + pad), np.nan, dtype=matrix.dtype)
    buffer[:, : lines.shape[1]] = lines
    return np.ascontiguousarray(buffer), buffer.shape[1]


def loaded(buffer: Array, shape: tuple[int, int], order: int) -> Array:
    lines = shape if order == ROW_MAJOR else shape[::-1]
    matrix = buffer[:, : lines[1]]
    return matrix if order == ROW_MAJOR else matrix.T


def as_stored(matrix: Array, trans: int) -> Array:
    """Return the matrix whose op() is `matrix`."""
    if trans == NO_TRANS:
        return matrix
    return matrix.T if trans == TRANS else matrix.conj().T


def random_matrix(rng: np.random.Generator, shape: tuple[int, int], dtype: type) -> Array:
    values = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def run(function: Any, product: Product, dtype: type, *, c_start: float | None = None) -> tuple[Array, Array, Array]:
    """Return the shim's C, numpy's C, and C's whole buffer (padding included) after the call."""
    rng = np.random.default_rng(product.seed)
    a, b = (random_matrix(rng, shape, dtype) for shape in ((product.m, product.k), (product.k, product.n)))
    c = (
        random_matrix(rng, (product.m, product.n), dtype)
        if c_start is None
        else np.full((product.m, product.n), c_start, dtype)
    )
    a_buffer, lda = stored(as_stored(a, product.trans_a), product.order, product.pad)
    b_buffer, ldb = stored(as_stored(b, product.trans_b), product.order, product.pad)
    c_buffer, ldc = stored(c, product.order, product.pad)

    complex_ = np.issubdtype(dtype, np.complexfloating)
    scalars: Array = np.array([product.alpha, product.beta], dtype=dtype)

    alpha = scalars[:1].ctypes.data if complex_ else product.alpha
    beta = scalars[1:].ctypes.data if complex_ else product.beta
    function(
        product.order, product.trans_a, product.trans_b, product.m, product.n, product.k,
        alpha, a_buffer.ctypes.data, lda, b_buffer.ctypes.data, ldb, beta, c_buffer.ctypes.data, ldc,
    )  # fmt: skip
    expected = product.alpha * (a @ b) + (product.beta * c if product.beta else 0)
    return loaded(c_buffer, c.shape, product.order), expected, c_buffer


def assert_close(got: Array, expected: Array) -> None:
    precision = 1e-12 if got.dtype == np.float64 else 2e-4
    np.testing.assert_allclose(got, expected, rtol=precision, atol=precision)


@given(product=products)
def test_sgemm_equals_numpy(shim: ctypes.CDLL, product: Product) -> None:
    got, expected, _ = run(shim.cblas_sgemm, product, np.float32)
    assert_close(got, expected)


@given(product=products)
def test_dgemm_equals_numpy(shim: ctypes.CDLL, product: Product) -> None:
    got, expected, _ = run(shim.cblas_dgemm, product, np.float64)
    assert_close(got, expected)


@given(product=products)
def test_cgemm_equals_numpy(shim: ctypes.CDLL, product: Product) -> None:
    got, expected, _ = run(shim.cblas_cgemm, product, np.complex64)
    assert_close(got, expected)


@given(product=products)
def test_the_padding_between_rows_is_neither_read_nor_written(shim: ctypes.CDLL, product: Product) -> None:
    got, _, buffer = run(shim.cblas_sgemm, product, np.float32)
    assert np.isfinite(got).all()
    used = product.n if product.order == ROW_MAJOR else product.m
    assert np.isnan(buffer[:, max(1, used) :]).all()


@given(product=products.filter(lambda product: product.beta == 0))
def test_beta_zero_overwrites_what_was_never_initialised(shim: ctypes.CDLL, product: Product) -> None:
    # mlx hands over fresh memory: 0 * NaN must not survive there, by gemv as little as by gemm.
    got, expected, _ = run(shim.cblas_sgemm, product, np.float32, c_start=np.nan)
    assert_close(got, expected)


@pytest.mark.parametrize("order", [ROW_MAJOR, COL_MAJOR])
@pytest.mark.parametrize("trans_a", [NO_TRANS, TRANS])
@pytest.mark.parametrize("trans_b", [NO_TRANS, TRANS])
@pytest.mark.parametrize(
    ("m", "n"), [(1, 1400), (2, 1400), (12, 1400), (13, 1400), (1400, 1), (1400, 2), (1400, 4), (65, 60), (289, 60)]
)
def test_products_as_large_as_a_layer_equal_numpy(
    shim: ctypes.CDLL, order: int, trans_a: int, trans_b: int, m: int, n: int
) -> None:
    # These sizes lie on both sides of the bounds for few rows, for all rows of a block and for its depth.
    product = Product(order, trans_a, trans_b, m, n, k=401, alpha=0.5, beta=-1.0, pad=3, seed=5)
    got, expected, buffer = run(shim.cblas_sgemm, product, np.float32)
    assert_close(got, expected)
    assert np.isnan(buffer[:, -3:]).all()

"""The bits of an element of the shim's float32 products depend on its row and its column only."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.blas_shim import COL_MAJOR, KERNELS, NO_TRANS, ROW_MAJOR, TRANS, bound_shim

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the shim is built on Linux only")

Matrix = NDArray[np.float32]


@pytest.fixture(scope="module", params=KERNELS)
def shim(request: pytest.FixtureRequest) -> Iterator[ctypes.CDLL]:
    with bound_shim(request.param) as library:
        yield library


@dataclass(frozen=True)
class Layout:
    """How the operands lie in memory; `pad` and `shift` are floats behind each line and before the first one."""

    order: int = ROW_MAJOR
    trans_a: int = NO_TRANS
    trans_b: int = TRANS
    pad: int = 0
    shift: int = 0


layouts = st.builds(
    Layout,
    order=st.sampled_from([ROW_MAJOR, COL_MAJOR]),
    trans_a=st.sampled_from([NO_TRANS, TRANS]),
    trans_b=st.sampled_from([NO_TRANS, TRANS]),
    pad=st.integers(0, 17),
    shift=st.integers(0, 16),
)
scales = st.sampled_from([(1.0, 0.0), (1.0, 1.0), (0.3, 0.7), (-1.5, 0.0)])


def lines(matrix: Matrix, *, by_column: bool, layout: Layout) -> tuple[Matrix, int]:
    """Return a view of the stored lines, NaN between them, and their distance."""
    turned = matrix.T if by_column else matrix
    count, length = turned.shape
    distance = max(1, length) + layout.pad
    buffer = np.full(layout.shift + count * distance, np.nan, dtype=np.float32)
    view = buffer[layout.shift :].reshape(count, distance)
    view[:, :length] = turned
    return view, distance


def multiply(
    shim: ctypes.CDLL,
    a: Matrix,
    b: Matrix,
    layout: Layout,
    scale: tuple[float, float] = (1, 0),
    c: Matrix | None = None,
) -> Matrix:
    (m, k), n = a.shape, b.shape[1]
    by_column = layout.order == COL_MAJOR
    a_lines, lda = lines(a, by_column=by_column != (layout.trans_a == TRANS), layout=layout)
    b_lines, ldb = lines(b, by_column=by_column != (layout.trans_b == TRANS), layout=layout)
    start: Matrix = np.full((m, n), np.nan, dtype=np.float32) if c is None else c
    c_lines, ldc = lines(start, by_column=by_column, layout=layout)
    shim.cblas_sgemm(
        layout.order, layout.trans_a, layout.trans_b, m, n, k, scale[0],
        a_lines.ctypes.data, lda, b_lines.ctypes.data, ldb, scale[1], c_lines.ctypes.data, ldc,
    )  # fmt: skip
    used = c_lines[:, : m if by_column else n]
    return (used.T if by_column else used).copy()


def assert_same_bits(got: Matrix, expected: Matrix) -> None:
    np.testing.assert_array_equal(got.view(np.uint32), np.ascontiguousarray(expected).view(np.uint32))


def random_matrix(seed: int, *shape: int) -> Matrix:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def coarse(matrix: Matrix) -> Matrix:
    """Return a matrix with few bits in each element, so that a product and a sum fit a long double."""
    return (np.round(matrix * 64) / 64).astype(np.float32)


def by_definition(a: Matrix, b: Matrix) -> Matrix:
    """Return the sum over k = 0, 1, 2 ..., rounded once at each step; for coarse matrices."""
    total = np.zeros((a.shape[0], b.shape[1]), dtype=np.float32)
    for k in range(a.shape[1]):
        total = (total.astype(np.longdouble) + np.outer(a[:, k].astype(np.longdouble), b[k])).astype(np.float32)
    return total


@given(data=st.data())
def test_an_element_has_the_same_bits_whatever_shares_its_product(shim: ctypes.CDLL, data: st.DataObject) -> None:
    m, n, k = (data.draw(st.integers(1, most), label=label) for label, most in (("m", 30), ("n", 70), ("k", 40)))
    rows, columns = (data.draw(st.lists(st.integers(0, most - 1), min_size=1, max_size=20)) for most in (m, n))
    scale = data.draw(scales)
    a, b, c = random_matrix(1, m, k), random_matrix(2, k, n), random_matrix(3, m, n)
    layout = data.draw(layouts)
    # Stored by column, the product is of the transposes, and alpha scales the other factor.
    other = replace(data.draw(layouts), order=layout.order)
    whole = multiply(shim, a, b, layout, scale, c)
    some = multiply(shim, a[rows], b[:, columns], other, scale, c[np.ix_(rows, columns)])
    assert_same_bits(some, whole[np.ix_(rows, columns)])


@pytest.mark.parametrize("layout", [Layout(), Layout(trans_b=NO_TRANS), Layout(trans_a=TRANS), Layout(shift=3, pad=16)])
@pytest.mark.parametrize(("m", "n", "k"), [(300, 70, 64), (290, 33, 900), (40, 300, 401), (7, 290, 1600)])
def test_blocks_of_rows_columns_and_depth_leave_no_trace(
    shim: ctypes.CDLL, layout: Layout, m: int, n: int, k: int
) -> None:
    a, b = random_matrix(1, m, k), random_matrix(2, k, n)
    whole = multiply(shim, a, b, layout)
    for rows in ([0], [m - 1], [3, m // 2], range(0, m, 9)):
        assert_same_bits(multiply(shim, a[list(rows)], b, Layout(shift=1)), whole[list(rows)])
    assert_same_bits(multiply(shim, a, b[:, [n - 1]], layout), whole[:, [n - 1]])


@given(data=st.data())
def test_a_k_whose_factor_is_zero_changes_nothing_wherever_it_stands(shim: ctypes.CDLL, data: st.DataObject) -> None:
    # Attention over a padded cache: the probabilities of the padding are 0.
    m, n = data.draw(st.integers(1, 14)), data.draw(st.sampled_from([1, 16, 64, 300]))
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=1, max_size=90)))
    p, v = random_matrix(4, m, len(kept)), random_matrix(5, len(kept), n)
    p[:, ~kept] = 0
    if kept.any():
        whole = multiply(shim, p, v, data.draw(layouts))
        assert_same_bits(multiply(shim, p[:, kept], v[kept], data.draw(layouts)), whole)


@pytest.mark.parametrize("layout", [Layout(), Layout(trans_b=NO_TRANS)])
@pytest.mark.parametrize("m", [1, 3, 12, 30])
def test_every_kernel_with_fused_multiplication_has_the_bits_of_the_definition(
    shim: ctypes.CDLL, layout: Layout, m: int
) -> None:
    if shim.mlx_sidecar_blas_kernels() == b"baseline":
        pytest.skip("on x86-64 the baseline has no FMA")
    a, b = coarse(random_matrix(6, m, 500)), coarse(random_matrix(7, 500, 50))
    assert_same_bits(multiply(shim, a, b, layout), by_definition(a, b))


@given(layout=layouts, empty=st.sampled_from(["m", "n", "k"]), scale=scales)
def test_an_empty_product_only_scales_what_is_there(
    shim: ctypes.CDLL, layout: Layout, empty: str, scale: tuple[float, float]
) -> None:
    sizes: dict[str, Any] = {"m": 3, "n": 4, "k": 5} | {empty: 0}
    a, b = random_matrix(1, sizes["m"], sizes["k"]), random_matrix(2, sizes["k"], sizes["n"])
    c = random_matrix(3, sizes["m"], sizes["n"])
    np.testing.assert_allclose(multiply(shim, a, b, layout, scale, c), c * np.float32(scale[1]), rtol=1e-6)

"""Why the BLAS shim sends products of up to four rows to gemv: its sgemm against OpenBLAS's own, on weights of a layer.

python -m benchmarks.gemv
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable
from ctypes import c_char_p, c_float, c_int, c_void_p
from typing import Any

import numpy as np

from .measure import Row, seconds, table

ROUNDS = 200
# Outputs and inputs of a weight, stored as mlx stores a linear layer: one row for each output.
WEIGHTS = [(1024, 384), (1024, 1024), (4096, 1024)]
ROWS = [1, 2, 3, 4, 6]
_ROW_MAJOR, _NO_TRANS, _TRANS = 101, 111, 112


def run() -> list[Row]:
    shim, openblas = _libraries()
    return [
        _row(outputs, inputs, rows, _sgemm(shim.cblas_sgemm), _sgemm(openblas.scipy_cblas_sgemm))
        for outputs, inputs in WEIGHTS
        for rows in ROWS
    ]


def _row(outputs: int, inputs: int, rows: int, ours: Callable[..., Any], peer: Callable[..., Any]) -> Row:
    rng = np.random.default_rng(1)
    x, weight = (rng.standard_normal((count, inputs), dtype=np.float32) for count in (rows, outputs))
    y = np.empty((rows, outputs), dtype=np.float32)

    def once(function: Callable[..., Any]) -> float:
        sizes = (_ROW_MAJOR, _NO_TRANS, _TRANS, rows, outputs, inputs)
        operands = (x.ctypes.data, inputs, weight.ctypes.data, inputs)
        return seconds(lambda: function(*sizes, 1.0, *operands, 0.0, y.ctypes.data, outputs))

    pairs = [(once(ours), once(peer)) for _ in range(ROUNDS)]
    mine, theirs = (statistics.median(column) * 1e6 for column in zip(*pairs, strict=True))
    what = f"{rows} {'row' if rows == 1 else 'rows'} times a weight {outputs}×{inputs}: shim against OpenBLAS's sgemm"
    return Row(what, f"{theirs / mine:.1f}× ({mine:.0f} against {theirs:.0f} µs)")


def _sgemm(function: Any) -> Callable[..., Any]:
    function.argtypes = [c_int] * 6 + [c_float, c_void_p, c_int, c_void_p, c_int, c_float, c_void_p, c_int]
    function.restype = None
    bound: Callable[..., Any] = function
    return bound


def _libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """The shim, bound but private to us, and the OpenBLAS behind it."""
    import os

    from mlx_sidecar.models.blas import THREADS_VARIABLE, find_openblas
    from mlx_sidecar_native import shim_path

    os.environ.setdefault(THREADS_VARIABLE, "1")
    path, library = shim_path(), find_openblas()
    if path is None or library is None:
        raise SystemExit("no BLAS shim or no scipy-openblas32 here: nothing to compare")
    shim, openblas = ctypes.CDLL(str(path)), ctypes.CDLL(str(library))
    shim.mlx_sidecar_blas_bind.argtypes = [c_void_p]
    shim.mlx_sidecar_blas_bind.restype = c_char_p
    if missing := shim.mlx_sidecar_blas_bind(openblas._handle):
        raise SystemExit(f"{library} has no symbol {missing.decode()}")
    return shim, openblas


if __name__ == "__main__":
    print(table(run()))

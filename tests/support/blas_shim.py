"""The BLAS shim, loaded privately, so that mlx in this process keeps its own BLAS."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_double, c_float, c_int, c_void_p

from mlx_sidecar.engine.execution.blas import find_openblas
from mlx_sidecar_native import shim_path

ROW_MAJOR, COL_MAJOR = 101, 102
NO_TRANS, TRANS, CONJ_TRANS = 111, 112, 113


def _library() -> ctypes.CDLL | None:
    path = shim_path()
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    library.mlx_sidecar_blas_bind.argtypes = [c_void_p, c_int]
    library.mlx_sidecar_blas_bind.restype = c_char_p
    library.mlx_sidecar_blas_kernels.restype = c_char_p
    library.mlx_sidecar_blas_use_kernels.argtypes = [c_char_p]
    for name, scalar in (("cblas_sgemm", c_float), ("cblas_dgemm", c_double), ("cblas_cgemm", c_void_p)):
        product = (c_void_p, c_int, c_void_p, c_int, scalar, c_void_p, c_int)
        getattr(library, name).argtypes = [c_int] * 6 + [scalar, *product]
    return library


SHIM = _library()
BEST = SHIM.mlx_sidecar_blas_kernels() if SHIM is not None else b""


def _has(kernels: str) -> bool:
    return SHIM is not None and bool(SHIM.mlx_sidecar_blas_use_kernels(kernels.encode()))


# What this machine can run. Asking leaves the last one in use; bound_shim chooses anew.
KERNELS = [name for name in ("avx512", "avx2", "neon", "baseline") if _has(name)]


@contextmanager
def bound_shim(kernels: str | None) -> Iterator[ctypes.CDLL]:
    """The shim with all its float32 products computed by those kernels, or, where None, as under `fast`."""
    openblas = find_openblas()
    assert SHIM is not None
    assert openblas is not None
    assert SHIM.mlx_sidecar_blas_bind(ctypes.CDLL(str(openblas))._handle, kernels is not None) is None
    assert SHIM.mlx_sidecar_blas_use_kernels(BEST if kernels is None else kernels.encode())
    yield SHIM

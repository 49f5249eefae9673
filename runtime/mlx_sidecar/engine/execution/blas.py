"""Settles which BLAS computes matrix products on a Linux CPU, before mlx is imported.

mlx's CPU wheel brings a reference BLAS, slow (2 GFLOP/s) and bit-stable. The shim of mlx_sidecar_native is put in front
of it: under `fast` it forwards to the OpenBLAS of scipy-openblas32, under `exact` it computes every float32 product
itself, each element in the same order whatever the batch. Neither mlx nor numpy is imported here: the loader only wins
if it comes first, and it must cost the engine's start a few milliseconds at most.
"""

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import mlx_sidecar_native

Numerics = Literal["fast", "exact"]

THREADS_VARIABLE = "OPENBLAS_NUM_THREADS"
REFERENCE = "mlx reference BLAS"
SYSTEM = "system BLAS of the mlx build"


@dataclass(frozen=True)
class BlasPolicy:
    """The BLAS of this process; `stats`, model cards and `doctor` show it.

    `threads` is per product, None where it is not known. `library` is the OpenBLAS behind the shim.
    `bit_stable`: an element of a float32 product has the same bits whatever rows share the product, which `--numerics
    exact` spec. `reason` says why the shim is not in force; None when it is.
    """

    name: str
    active: bool = False
    threads: int | None = None
    library: str | None = None
    bit_stable: bool = False
    reason: str | None = None


class BlasOrderError(RuntimeError):
    """`preload` came too late to have the effect it was asked for: a mistake in the order of the engine's start."""


class BlasLoadError(RuntimeError):
    """The shim and an OpenBLAS are installed but do not load: a broken installation, not a missing part."""


def preload(numerics: Numerics) -> BlasPolicy:
    """Settle the BLAS of this process; call it before anything imports mlx.core.

    Sets OPENBLAS_NUM_THREADS to 1 unless the user set it: two threads that contend for a core were 20 times slower than
    one. Calling it again with the same argument answers the same policy. Where mlx was imported before, `exact` leaves
    it its reference BLAS. Raises BlasOrderError where `fast` comes after mlx or one of the two after the other, and
    BlasLoadError where the shim cannot load.
    """
    # OpenBLAS reads it while it is loaded, numpy's own copy of it included.
    os.environ.setdefault(THREADS_VARIABLE, "1")
    if (loaded := _loaded()) is not None:
        if loaded.bit_stable != (numerics == "exact"):
            raise BlasOrderError(f"numerics {numerics!r} was asked for after this process had settled on {loaded.name}")
        return loaded
    if sys.platform != "linux":
        return BlasPolicy(SYSTEM, reason="the shim is for Linux; here mlx brings its own (Accelerate, Metal)")
    if not _has_cpu_wheel():
        return BlasPolicy(SYSTEM, reason="this mlx is not the CPU wheel, whose reference BLAS the shim replaces")
    return _load_shim(invariant=numerics == "exact")


def _load_shim(*, invariant: bool) -> BlasPolicy:
    shim = mlx_sidecar_native.shim_path()
    if shim is None or find_spec("mlx_sidecar_native._native") is None:
        return _reference("mlx_sidecar_native is not built: `make native` in its checkout builds it")
    openblas = find_openblas()
    if openblas is None:
        return _reference("scipy-openblas32 is not installed")
    if "mlx.core" in sys.modules:
        if invariant:
            return _reference("mlx.core was imported before preload(): its BLAS is bound")
        raise BlasOrderError("mlx.core was imported before preload(): its BLAS is bound and cannot be replaced")
    from mlx_sidecar_native import _native

    try:
        loaded = _native.load_blas(str(shim), str(openblas), invariant)
    except OSError as error:
        raise BlasLoadError(f"the BLAS shim does not load: {error}") from error
    return _describe(*loaded, _native.blas_threads())


def _reference(reason: str) -> BlasPolicy:
    return BlasPolicy(REFERENCE, threads=1, bit_stable=True, reason=reason)


def _loaded() -> BlasPolicy | None:
    """Return the policy in force if the shim is loaded. The extension keeps that fact, because it cannot be undone."""
    # Not imported means not loaded: nothing else loads it.
    if "mlx_sidecar_native._native" not in sys.modules:
        return None
    from mlx_sidecar_native import _native

    blas = _native.loaded_blas()
    return None if blas is None else _describe(*blas, _native.blas_threads())


def _describe(path: str, config: str, kernels: str | None, threads: int) -> BlasPolicy:
    if kernels is not None:
        return BlasPolicy(f"invariant {kernels} kernels via shim", True, 1, path, bit_stable=True)
    # "OpenBLAS 0.3.34.481.3 DYNAMIC_ARCH NO_AFFINITY SkylakeX MAX_THREADS=64": the release is the first three parts.
    release = ".".join(config.split()[1].split(".")[:3])
    return BlasPolicy(f"openblas {release} via shim", True, threads, path)


def _has_cpu_wheel() -> bool:
    """Whether the installed mlx computes with the mlx-cpu wheel. Looks at names: importlib.metadata costs 50 ms."""
    spec = find_spec("mlx")
    locations = spec.submodule_search_locations if spec is not None else None
    return any(next(Path(location).parent.glob("mlx_cpu-*.dist-info"), None) for location in locations or ())


def find_openblas() -> Path | None:
    """Return the library that scipy-openblas32 installed, or None.

    The package is not imported: it reads its own metadata for a version, which costs 50 ms.
    """
    spec = find_spec("scipy_openblas32")
    locations = spec.submodule_search_locations if spec is not None else None
    found = (next((Path(location) / "lib").glob("libscipy_openblas*.so*"), None) for location in locations or ())
    return next((path for path in found if path is not None), None)

"""The backend policy is the device, its arithmetic and its guarantees. It is settled once, before mlx is imported."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from mlx_sidecar_protocol.errors import UnsupportedParameter

from ...link.control_messages import Dtype
from ...link.engine_config import Activations, KvCacheDtype, NativeCode, Numerics
from ...machine_memory import machine_limit_bytes
from . import blas

PLAIN = "baseline"
"""The kernels for a processor without the vectors that others need: they are there for tests."""

Arithmetic = Literal["exact", "fast", "int8"]


@dataclass(frozen=True)
class NativePolicy:
    """How native code computes: ``arithmetic`` is exact, fast or int8, with so many ``threads``.

    Keys and values are kept as ``cache_dtype``.
    """

    kernels: str
    arithmetic: Arithmetic
    threads: int
    cache_dtype: Literal["float32", "float16"] = "float32"

    @property
    def words(self) -> str:
        rounded = ", int8 activations while decoding" if self.arithmetic == "int8" else ""
        kept = "" if self.cache_dtype == "float32" else f", keys and values in {self.cache_dtype}"
        return f"native {self.kernels} kernels, weights as stored, sums in float32{rounded}{kept}"


@dataclass(frozen=True)
class Policy:
    """The settled policy; models compute in ``default_dtype`` unless a load says otherwise; None: as they are stored.

    On a CPU it is float32, because mlx's half-precision and quantised products are 7 to 30 times slower there. Models
    that ``native`` code computes keep their weights as stored, and their sums are float32 all the same.
    """

    backend: Literal["cpu", "metal", "cuda"]
    device: str
    products: str
    default_dtype: Dtype | None
    numerics: Numerics
    limit_bytes: int
    native: NativePolicy | None = None

    @property
    def words(self) -> str:
        """Describe the policy for ``stats``, model cards and bug reports."""
        return self.words_for(self.default_dtype)

    def words_for(self, dtype: Dtype | None) -> str:
        return f"{self.products}, {dtype or 'as stored'}"


def settle(
    numerics: Numerics,
    *,
    native: NativeCode = "auto",
    threads: int = 1,
    activations: Activations = "float",
    kv_cache_dtype: KvCacheDtype = "auto",
) -> Policy:
    """Choose the BLAS, import mlx, ask it for its device, and see whether native code can compute.

    Raises ``UnsupportedParameter`` where one of these cannot be had.
    """
    try:
        products = blas.preload(numerics)
    except (blas.BlasLoadError, blas.BlasOrderError) as error:
        raise UnsupportedParameter("numerics", str(error)) from error
    import mlx.core as mx

    backend = _backend(mx)
    if numerics == "exact" and not (backend == "cpu" and products.bit_stable):
        raise UnsupportedParameter(
            "numerics", f"on {backend} with {products.name} the bits of a product depend on the size of the batch"
        )
    code = _native(numerics, native, threads, activations, kv_cache_dtype) if backend == "cpu" else None
    natively = {
        "threads": threads > 1,
        "activations": activations != "float",
        "kv_cache_dtype": kv_cache_dtype != "auto",
    }
    for name, given in natively.items():
        if given and code is None:
            raise UnsupportedParameter(name, f"on {backend} no native code computes")
    info = mx.device_info()
    device = str(info.get("device_name", backend))
    if backend == "cpu":
        return Policy(backend, device, products.name, "float32", numerics, machine_limit_bytes(), code)
    return Policy(backend, device, backend, None, numerics, _wire(mx, info))


def _native(
    numerics: Numerics, native: NativeCode, threads: int, activations: Activations, kv_cache_dtype: KvCacheDtype
) -> NativePolicy | None:
    """Return how native code computes; None where it is switched off, not built, or has no instructions to gain by."""
    if activations == "int8" and numerics == "exact":
        raise UnsupportedParameter("activations", "rounded to int8 they depend on how many tokens share a product")
    if native == "off" or sys.platform != "linux" or find_spec("mlx_sidecar_native._native") is None:
        return None
    from mlx_sidecar_native import _native as built

    kernels = built.cpu.kernels()
    if kernels == PLAIN and os.environ.get("MLX_SIDECAR_CPU_KERNELS") != PLAIN:
        return None
    arithmetic: Arithmetic = "int8" if activations == "int8" else numerics
    return NativePolicy(kernels, arithmetic, threads, "float32" if kv_cache_dtype == "auto" else kv_cache_dtype)


def _backend(mx: Any) -> Literal["cpu", "metal", "cuda"]:
    if mx.default_device() == mx.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def _wire(mx: Any, info: dict[str, Any]) -> int:
    """Keep weights wired up to the working set that Metal recommends. The limit is the process's and ends with it."""
    recommended = info.get("max_recommended_working_set_size")
    if recommended is None:  # CUDA: device memory does not page
        return int(info.get("total_memory", machine_limit_bytes()))
    mx.set_wired_limit(recommended)
    return int(recommended)

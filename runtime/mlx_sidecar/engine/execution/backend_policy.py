"""The backend policy is the device, its arithmetic and its guarantees. It is settled once, before mlx is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mlx_sidecar_protocol.errors import UnsupportedParameter

from ...link.control_messages import Dtype
from ...machine_memory import machine_limit_bytes
from . import blas

Numerics = Literal["fast", "exact"]


@dataclass(frozen=True)
class Policy:
    """The settled policy; models compute in ``default_dtype`` unless a load says otherwise; None: as they are stored.

    On a CPU it is float32, because half-precision and quantised products are 7 to 30 times slower there.
    """

    backend: Literal["cpu", "metal", "cuda"]
    device: str
    products: str
    default_dtype: Dtype | None
    numerics: Numerics
    limit_bytes: int

    @property
    def words(self) -> str:
        """Describe the policy for ``stats``, model cards and bug reports."""
        return self.words_for(self.default_dtype)

    def words_for(self, dtype: Dtype | None) -> str:
        return f"{self.products}, {dtype or 'as stored'}"


def settle(numerics: Numerics) -> Policy:
    """Choose the BLAS, import mlx, ask it for its device.

    Raises ``UnsupportedParameter`` where ``numerics`` cannot be had.
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
    info = mx.device_info()
    device = str(info.get("device_name", backend))
    if backend == "cpu":
        return Policy(backend, device, products.name, "float32", numerics, machine_limit_bytes())
    return Policy(backend, device, backend, None, numerics, _wire(mx, info))


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

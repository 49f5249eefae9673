"""The one place where the engine turns an exception into what crosses the link."""

from __future__ import annotations

from mlx_sidecar_protocol.errors import InvalidParams, RpcError

from ..link.messages import Fault


def fault_of(error: RpcError) -> Fault:
    """``error`` as numbers and names. Of ``InvalidParams`` the first field at fault travels as ``field``."""
    if isinstance(error, InvalidParams):
        return Fault(error.kind, error.message, {"field": ".".join(map(str, error.details["errors"][0]["loc"]))})
    return Fault(error.kind, error.message, error.details)

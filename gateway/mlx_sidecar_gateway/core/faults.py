"""Errors of the sidecar as faults, and the headers that go with a fault."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from mlx_sidecar_client import GenerateResult, RpcError, SidecarLost

from ..surfaces.events import WHOLE
from ..surfaces.faults import Fault
from ..surfaces.surface import WayOf

# The HTTP status of each kind of the sidecar's errors. docs/gateway.md has the table, a test compares them.
STATUS: Mapping[str, int] = {
    "parse_error": 400,
    "nesting_too_deep": 400,
    "invalid_request": 400,
    "frame_too_large": 413,
    "batch_too_long": 400,
    "too_many_values": 413,
    "method_not_found": 500,
    "invalid_params": 400,
    "internal_error": 500,
    "model_not_found": 404,
    "model_load_failed": 500,
    "model_unsupported": 400,
    "adapter_load_failed": 500,
    "adapter_unsupported": 400,
    "not_initialized": 500,
    "shutting_down": 503,
    "model_not_loaded": 404,
    "model_in_use": 409,
    "context_too_long": 400,
    "unsupported_parameter": 400,
    "constraint_unsatisfiable": 400,
    "overloaded": 503,
    "out_of_memory": 503,
    "deadline_passed": 504,
    "engine_lost": 503,
    "engine_stalled": 503,
    "poison_request": 500,
    "non_finite_embedding": 500,
    "non_finite_logits": 500,
    "unknown_stream": 500,
    "unknown_session": 404,
    "unknown_adapter": 404,
    "duplicate_stream": 500,
    "duplicate_id": 500,
    "cancelled": 503,
}

SHUTTING_DOWN = Fault(503, "shutting_down", "the gateway is shutting down", retryable=True)
TOO_MANY_CONNECTIONS = Fault(503, "overloaded", "there are too many connections", retryable=True, retry_after_s=1.0)
HEADER_TIMEOUT = Fault(408, "header_timeout", "the headers were not there in time", retryable=True)
HEADER_TOO_LONG = Fault(431, "header_too_long", "the headers are too long")
STARTING = Fault(503, "starting", "the gateway is starting", retryable=True, retry_after_s=1.0)
INTERNAL = Fault(500, "internal_error", "internal error of the gateway")
DEADLINE = Fault(504, "deadline_passed", "the deadline passed before the answer was whole", retryable=True)

_LEAST_RETRY_S, _MOST_RETRY_S = 1, 60
_RETRIED_BY_CLIENTS = (408, 409, 429)  # statuses below 500 with which SDKs send a request again


def fault_of(
    error: RpcError | SidecarLost, names: Mapping[str, str] | None = None, way_of: WayOf | None = None
) -> Fault:
    """The fault that an error of the sidecar is.

    names: The client's name of each field that has another one.
    way_of: The client's way to a part of a field, where it is another one.
    """
    if isinstance(error, SidecarLost):
        return Fault(503, "engine_lost", error.because, retryable=True, details={"because": error.because})
    path, message = _path_of(error), error.message
    if path and way_of is not None and (way := way_of(path)) is not None:
        message = way + message.removeprefix(".".join(path)) if message.startswith(".".join(path)) else message
        path = way.split(".")
    elif path and names and (renamed := names.get(path[0])) is not None:
        # Messages begin with the field as the sidecar calls it.
        message = renamed + message.removeprefix(path[0]) if message.startswith(path[0]) else message
        path = [renamed, *path[1:]]
    retry_after_s = error.details.get("retry_after_s")
    return Fault(
        STATUS.get(error.kind, 500),
        error.kind,
        message,
        param=".".join(path) or None,
        # A gateway whose sidecar shuts down is about to be replaced, or to start another one.
        retryable=error.retryable or error.kind in ("shutting_down", "cancelled"),
        retry_after_s=retry_after_s if isinstance(retry_after_s, int | float) else None,
        details=error.details,
    )


def ending_of(result: GenerateResult) -> GenerateResult | Fault:
    """The result if it is whole, else the reason why it is not."""
    # Clients run the calls of an answer that ended well. One that was cut off is told by its finish reason.
    if result.incomplete_tool_calls and result.finish_reason == "stop":
        because = result.tool_call_error or "it is not whole"
        return Fault(502, "tool_call_error", f"the model wrote a call of a tool that cannot be run: {because}")
    if result.finish_reason in WHOLE:
        return result
    return DEADLINE if result.finish_reason == "deadline" else SHUTTING_DOWN


def headers_of(fault: Fault) -> dict[str, str]:
    """When a client should try again, or that it should not."""
    if fault.status < 500 and fault.status not in _RETRIED_BY_CLIENTS:
        return {}
    headers = {"x-should-retry": "true" if fault.retryable else "false"}
    if fault.status == 429:  # as it is: a client that came earlier would be refused again
        return headers | _retry_after(fault.retry_after_s or 0)
    if fault.status == 503 and fault.retryable:
        return headers | _retry_after(min(max(fault.retry_after_s or 0, _LEAST_RETRY_S), _MOST_RETRY_S))
    return headers


def _retry_after(wait_s: float) -> dict[str, str]:
    return {"retry-after": str(ceil(wait_s)), "retry-after-ms": str(ceil(wait_s * 1000))}


def _path_of(error: RpcError) -> list[str]:
    """The way to the parameter at fault; empty if no parameter is."""
    if error.kind == "invalid_params" and (errors := error.details.get("errors")):
        return [str(part) for part in errors[0].get("loc", ())]
    if error.kind == "context_too_long":  # of a request with several texts
        return str(field).split(".") if (field := error.details.get("field")) else []
    if error.kind == "unsupported_parameter":
        return str(error.details.get("name", "")).split(".")
    return ["model"] if error.kind in ("model_not_found", "model_unsupported", "model_not_loaded") else []

"""Faults in OpenAI's words."""

from __future__ import annotations

from typing import Any

import orjson

from ..faults import Fault
from ..sse import data

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}

# Codes that clients of OpenAI know. Others have the name of the kind.
_CODES = {
    "context_too_long": "context_length_exceeded",
    "unauthorized": "invalid_api_key",
    "unknown_parameter": "unknown_parameter",
    "model_not_loaded": "model_not_found",
    "rate_limited": "rate_limit_exceeded",
}

# Facts of the sidecar's error that clients of llama.cpp look for, under its names.
_FACTS = {"context_too_long": {"have": "n_prompt_tokens", "limit": "n_ctx"}}


def error_of(fault: Fault) -> dict[str, Any]:
    """The ``error`` object."""
    kind = "server_error" if fault.status >= 500 else _TYPES.get(fault.status, "invalid_request_error")
    code = _CODES.get(fault.kind, fault.kind)
    named = _FACTS.get(fault.kind, {})
    facts = {named[name]: value for name, value in fault.details.items() if name in named}
    return {"error": {"message": fault.message, "type": kind, "param": fault.param, "code": code, **facts}}


def body_of(fault: Fault) -> bytes:
    """The body of an answer with an error status."""
    return orjson.dumps(error_of(fault))


def event_of(fault: Fault) -> bytes:
    """The event that ends a stream which broke off: SDKs raise it, and no ``[DONE]`` follows."""
    return data(error_of(fault))

"""Errors as Anthropic's clients read them."""

from __future__ import annotations

from typing import Any, Final

import orjson

from ..faults import Fault

STATUSES: Final = {"overloaded": 529}
"""The status of faults that Anthropic tells by one of its own."""

_NO_THREADS: Final = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
"""By this the loops for tools of Anthropic's packages go on without a thread, sending the whole conversation."""

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_of(fault: Fault) -> dict[str, Any]:
    """The error of an answer, or of an event in a stream; ``kind`` and ``param`` are more than Anthropic sends."""
    type_ = _TYPES.get(fault.status, "invalid_request_error" if fault.status < 500 else "api_error")
    error: dict[str, Any] = {"type": type_, "message": fault.message, "kind": fault.kind}
    if fault.param is not None:
        error["param"] = fault.param
    if fault.param == "thread":
        error["details"] = _NO_THREADS
    return {"type": "error", "error": error}


def body_of(fault: Fault) -> bytes:
    """The body of an answer with an error status."""
    return orjson.dumps(error_of(fault))

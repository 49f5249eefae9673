"""Failures of providers: as faults for clients, and as reasons to go on to the next provider, or not to."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import orjson

from mlx_sidecar_client import RpcError, SidecarLost

from ..surfaces.faults import Fault, Refused

FAILED: Final = "provider_failed"
TIMED_OUT: Final = "provider_timeout"
UNAVAILABLE: Final = "provider_unavailable"
MISCONFIGURED: Final = "provider_misconfigured"
REFUSED: Final = "provider_refused"
FILTERED: Final = "content_filtered"
LOOP: Final = "loop_detected"

STATUS: Final[Mapping[str, int]] = {
    FAILED: 502,
    TIMED_OUT: 504,
    UNAVAILABLE: 503,
    MISCONFIGURED: 502,
    REFUSED: 400,
    FILTERED: 400,
    LOOP: 508,
}
"""The HTTP status of each kind of fault that comes from providers alone."""

_BUSY: Final = frozenset({429, 503, 529})  # it says itself that it cannot now
_OURS: Final = frozenset(
    {401, 402, 403, 404, 405, 508}
)  # no fault of the client, whose request has our key and our names
_LONGEST_MESSAGE: Final = 500
_TOO_LONG: Final = frozenset({"context_length_exceeded", "context_too_long"})


class Verdict(Enum):
    """The words of a failure."""

    CANNOT = "this provider cannot do what was asked, and another one may"
    BUSY = "it works, and cannot now"
    BROKEN = "it fails"
    FINAL = "the request is at fault, or would do harm elsewhere too"


class ProviderFailed(Refused):
    """A provider failed a request.

    is_busy: It said itself that it cannot now.
    retryable: Whether the same request may succeed there later.
    """

    def __init__(
        self,
        provider: str,
        because: str,
        kind: str = FAILED,
        *,
        is_busy: bool = False,
        retryable: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        message = f"the provider {provider!r} {because}"
        super().__init__(Fault(STATUS[kind], kind, message, retryable=retryable, retry_after_s=retry_after_s))
        self.is_busy = is_busy


# Kinds of the sidecar's errors. Those that are in no set are final.
_CANNOT: Final = {"unsupported_parameter", "context_too_long", "adapter_unsupported", "unknown_adapter"}
_SIDECAR_BUSY: Final = {"overloaded", "out_of_memory", "model_in_use", "shutting_down"}
_SIDECAR_BROKEN: Final = {
    "engine_lost",
    "engine_stalled",
    "internal_error",
    "model_load_failed",
    "model_not_found",
    "model_not_loaded",
    "model_unsupported",
    "not_initialized",
}


def verdict_of(error: Exception) -> Verdict:
    """The words of an error that came before the first word of an answer."""
    if isinstance(error, SidecarLost):
        return Verdict.BROKEN
    if isinstance(error, ProviderFailed):
        return Verdict.BUSY if error.is_busy else Verdict.BROKEN
    kind = error.fault.kind if isinstance(error, Refused) else error.kind if isinstance(error, RpcError) else ""
    if kind in _CANNOT:
        return Verdict.CANNOT
    if kind in _SIDECAR_BUSY:
        return Verdict.BUSY
    return Verdict.BROKEN if kind in _SIDECAR_BROKEN else Verdict.FINAL


def failure_of(
    provider: str, status: int, body: bytes, retry_after_s: float | None, secret: str | None, *, may_retry: bool = True
) -> Refused:
    """The failure that a response with an error status is. ``secret`` stands in no message.

    may_retry: Whether the provider would take the same request again.
    """
    message, code = _said(body, secret)
    if status in _BUSY:
        return ProviderFailed(
            provider, f"cannot now: {status} {message}", UNAVAILABLE, is_busy=True, retry_after_s=retry_after_s
        )
    if status in _OURS or status < 400:
        # Its words about our key are for the log of the gateway, not for a client.
        because = f"refuses the gateway, with status {status}"
        return ProviderFailed(provider, because, MISCONFIGURED, retryable=False)
    if status >= 500 or status == 408:
        return ProviderFailed(provider, f"failed with status {status}: {message}", retryable=may_retry)
    if code in _TOO_LONG:
        return Refused(Fault(400, "context_too_long", message))
    said = f"the provider {provider!r} refuses the request: {message}"
    return Refused(Fault(status if status in (413, 422) else 400, REFUSED, said))


def said_in(error: Any, secret: str | None) -> tuple[str, str]:
    """The message and the code of an ``error`` member, as OpenAI's and Anthropic's interfaces have it."""
    if isinstance(error, str):
        return _cleaned(error, secret), ""
    if not isinstance(error, Mapping):
        return "no reason given", ""
    message = error.get("message")
    codes = [value for name in ("code", "kind", "type") if isinstance(value := error.get(name), str)]
    return _cleaned(message if isinstance(message, str) else "no reason given", secret), codes[0] if codes else ""


def _said(body: bytes, secret: str | None) -> tuple[str, str]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "no reason given", ""
    return said_in(value.get("error") if isinstance(value, Mapping) else None, secret)


def _cleaned(message: str, secret: str | None) -> str:
    cleaned = message.replace(secret, "***") if secret else message
    return cleaned[:_LONGEST_MESSAGE]

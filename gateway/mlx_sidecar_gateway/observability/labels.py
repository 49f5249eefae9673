"""Values of labels. Each label has a bounded set of them, whatever clients send."""

from __future__ import annotations

from collections.abc import Collection

from ..core.faults import STATUS
from ..core.records import ANSWERED, DISCONNECTED, Record
from ..surfaces.events import WHOLE

OTHER = "other"
MOST_MODELS = 64  # names of models where the settings name none: all that clients name and that are there

OPERATIONS = {
    "/chat/completions": "chat",
    "/responses": "chat",
    "/messages": "chat",
    "/api/chat": "chat",
    "/completions": "text_completion",
    "/api/generate": "text_completion",
    "/embeddings": "embeddings",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
    "/rerank": "rerank",
}
"""By route the operation, by the names of OpenTelemetry's conventions where these have one."""

OWN_FAULTS = frozenset(
    {
        "body_timeout",
        "body_too_long",
        "header_timeout",
        "header_too_long",
        "host_refused",
        "method_not_allowed",
        "not_served",
        "origin_refused",
        "previous_response_not_found",
        "priority_refused",
        "rate_limited",
        "response_not_found",
        "starting",
        "tool_call_error",
        "unauthorized",
        "unknown_parameter",
    }
)
"""The kinds of faults that are the gateway's own, beside those of the sidecar's errors."""

SUCCESSES = frozenset({*WHOLE, ANSWERED})
OUTCOMES = frozenset({*SUCCESSES, DISCONNECTED, *STATUS, *OWN_FAULTS})


def operation_of(record: Record) -> str:
    return OPERATIONS.get(record.route, OTHER)


def outcome_of(record: Record) -> str:
    return record.outcome if record.outcome in OUTCOMES else OTHER


def error_type_of(record: Record) -> str:
    """The outcome of a request that did not succeed; empty, which Prometheus takes for no label, of one that did."""
    return "" if record.outcome in SUCCESSES else outcome_of(record)


def provider_of(record: Record) -> str:
    return "mlx_sidecar" if record.provider == "local" else record.provider


class Models:
    """The names of models that are told apart; those of all others are ``OTHER``.

    They are those that the gateway offers. Without such a list they are the first ``MOST_MODELS`` that requests named
    with success.
    """

    def __init__(self, offered: Collection[str]) -> None:
        self._is_fixed = bool(offered)
        self._known = set(offered)

    def name_of(self, record: Record) -> str:
        """The label; empty for a request that names no model."""
        if not self._is_fixed and record.outcome in SUCCESSES and len(self._known) < MOST_MODELS:
            self._known.add(record.model)
        return record.model if record.model in self._known or not record.model else OTHER

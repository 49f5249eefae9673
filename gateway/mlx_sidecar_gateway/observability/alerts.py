"""The rules of alerts, for Prometheus."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .expressions import increase, quantile, rate, value

# Outcomes of which neither a client nor a bound that somebody has set is the cause.
BROKEN = (
    "adapter_load_failed",
    "engine_lost",
    "engine_stalled",
    "internal_error",
    "model_load_failed",
    "non_finite_embedding",
    "non_finite_logits",
    "out_of_memory",
    "poison_request",
)


_EACH_MODEL = "instance, gen_ai_request_model"


@dataclass(frozen=True)
class Alert:
    """One rule: it fires when ``expression`` has held for ``lasting``, a duration as Prometheus writes it."""

    name: str
    expression: str
    lasting: str
    severity: str
    summary: str
    description: str


def _share(part: str, whole: str) -> str:
    return f"{part} / {whole}"


ALERTS = (
    Alert(
        "MlxSidecarDown",
        f"{value('up')} == 0",
        "1m",
        "critical",
        "The sidecar does not answer",
        "The gateway has had no figures of its sidecar for a minute: it is starting, hangs, or was given up.",
    ),
    Alert(
        "MlxSidecarEngineNotReady",
        value("engine_state", 'state="ready"') + " == 0",
        "2m",
        "critical",
        "There is no engine",
        "It has been starting, lost or failed for two minutes; requests wait for it.",
    ),
    Alert(
        "MlxSidecarEngineRestarts",
        f"{increase('engine_restarts', '15m')} > 2",
        "0m",
        "critical",
        "The engine dies again and again",
        "It was started again more than twice within 15 minutes. Streams went on; the logs have the reason.",
    ),
    Alert(
        "MlxSidecarRequestsBreak",
        _share(
            rate("mlx_sidecar_requests", "5m", f'operation!="other",outcome=~"{"|".join(BROKEN)}"', "instance"),
            rate("mlx_sidecar_requests", "5m", 'operation!="other"', "instance"),
        )
        + " > 0.05",
        "5m",
        "critical",
        "More than 5 % of requests break",
        "They ended with errors that are no fault of clients.",
    ),
    Alert(
        "MlxSidecarQueueFills",
        _share(value("queue_waiting"), value("queue_limit")) + " > 0.8",
        "5m",
        "warning",
        "The queue is nearly full",
        "More than 80 % of the places are taken; beyond the limit requests are refused.",
    ),
    Alert(
        "MlxSidecarFirstTokenSlow",
        quantile(0.95, "gen_ai_server_time_to_first_token_seconds", "10m", by=_EACH_MODEL) + " > 5",
        "10m",
        "warning",
        "First tokens are slow",
        "One answer in twenty begins later than 5 s after its request.",
    ),
    Alert(
        "MlxSidecarShortOfMemory",
        f"{increase('engine_refused_for_memory', '10m')} + {increase('engine_allocation_failures', '10m')} > 0",
        "0m",
        "warning",
        "Memory is short",
        "Requests were refused, or allocations failed, for want of memory.",
    ),
    Alert(
        "MlxSidecarDiskCacheFailed",
        value("cache_disk_state", 'state="failed"') + " == 1",
        "5m",
        "warning",
        "The prefix cache on disk has failed",
        "Prompts are kept in memory alone; cache/stats has the reason.",
    ),
    Alert(
        "MlxSidecarSpansLost",
        increase("mlx_sidecar_spans", "10m", 'outcome!="sent"') + " > 0",
        "10m",
        "warning",
        "Spans are lost",
        "The collector of --otel does not take them, or not fast enough. Answers are not affected.",
    ),
)


def rules() -> str:
    """The file of rules, in YAML; strings are written as JSON, which is YAML too."""
    lines = ["# Written by python -m mlx_sidecar_gateway.observability.dashboards", "groups:", "  - name: mlx-sidecar"]
    lines.append("    rules:")
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.expression)}",
            f"        for: {alert.lasting}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          description: {json.dumps(alert.description)}",
        ]
    return "\n".join(lines) + "\n"

"""The one table of metrics, from which ``/metrics``, its documentation, the dashboard and the alerts are made."""

from __future__ import annotations

from collections.abc import Mapping

from .metric import Kind, Metric
from .sidecar_names import OF_SIDECAR

GENAI = "GenAI 0.1.0"  # github.com/open-telemetry/semantic-conventions-genai
SEMCONV = "semantic conventions 1.37.0"  # github.com/open-telemetry/semantic-conventions

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OUTPUT_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(float(4**power) for power in range(14))  # 1 to 67,108,864

_GENAI_LABELS = ("surface", "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

# Of requests. Each is counted once, at its end, whatever became of it.

REQUESTS = Metric(
    "mlx_sidecar_requests",
    "counter",
    "",
    ("surface", "operation", "outcome", "key"),
    "Requests that have ended, probes not counted; key is the name of the client's key",
    "requests",
    vllm="request_success",
)
DURATION = Metric(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "seconds",
    (*_GENAI_LABELS, "error_type"),
    "Time from a request's arrival to the end of its answer",
    "requests",
    f"gen_ai.server.request.duration, {GENAI}",
    "e2e_request_latency_seconds",
    SECONDS,
)
TIME_TO_FIRST_TOKEN = Metric(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "seconds",
    _GENAI_LABELS,
    "Time from the arrival of a request that succeeded to its first token",
    "requests",
    f"gen_ai.server.time_to_first_token, {GENAI}",
    "time_to_first_token_seconds",
    FIRST_TOKEN,
)
TIME_PER_OUTPUT_TOKEN = Metric(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "seconds",
    _GENAI_LABELS,
    "Mean time of a token behind the first, of a request that succeeded",
    "requests",
    f"gen_ai.server.time_per_output_token, {GENAI}",
    "request_time_per_output_token_seconds",
    OUTPUT_TOKEN,
)
TOKEN_USAGE = Metric(
    "gen_ai_client_token_usage",
    "histogram",
    "tokens",
    (*_GENAI_LABELS, "gen_ai_token_type"),
    "Tokens of a generation that has a result: input, cached ones included, and output",
    "requests",
    f"gen_ai.client.token.usage, {SEMCONV}",
    "request_prompt_tokens, request_generation_tokens",
    TOKENS,
)
TOKENS_BY_KEY = Metric(
    "mlx_sidecar_tokens",
    "counter",
    "tokens",
    ("model", "key", "type"),
    "Tokens of generations: prompt and the cached part of it, completion and the reasoning in it",
    "requests",
    vllm="prompt_tokens, generation_tokens, prefix_cache_hits",
)
LONGEST_GAP = Metric(
    "mlx_sidecar_longest_gap_seconds",
    "histogram",
    "seconds",
    ("surface", "model"),
    "The longest time between two parts of a streamed answer",
    "requests",
    bounds=SECONDS,
)
PINGS = Metric("mlx_sidecar_pings", "counter", "", ("surface",), "Pings that filled the silence of streams", "requests")
SENT_BYTES = Metric("mlx_sidecar_sent_bytes", "counter", "bytes", ("surface",), "Bytes of response bodies", "requests")
RETRIES = Metric(
    "mlx_sidecar_retries", "counter", "", ("surface",), "Requests that their client had sent before", "requests"
)
IGNORING = Metric(
    "mlx_sidecar_requests_with_ignored_parameters",
    "counter",
    "",
    ("surface",),
    "Requests with parameters that change nothing here",
    "requests",
)

OF_REQUESTS = (
    REQUESTS,
    DURATION,
    TIME_TO_FIRST_TOKEN,
    TIME_PER_OUTPUT_TOKEN,
    TOKEN_USAGE,
    TOKENS_BY_KEY,
    LONGEST_GAP,
    PINGS,
    SENT_BYTES,
    RETRIES,
    IGNORING,
)


# Of the gateway, as it is when it is asked.


def _gateway(name: str, kind: Kind, help_: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(f"mlx_sidecar_{name}", kind, "", labels, help_, "gateway")


OF_GATEWAY = (
    _gateway("up", "gauge", "1 if the sidecar answered this scrape in time, else 0, and nothing else of it is told"),
    _gateway("gateway_draining", "gauge", "1 from SIGTERM on"),
    _gateway("requests_running", "gauge", "Requests that have come and have not ended"),
    _gateway("spans", "counter", "Spans of --otel: sent, failed (no collector took them), dropped", ("outcome",)),
    _gateway("metric_exports", "counter", "Times that --otel sent all metrics: sent, failed", ("outcome",)),
)

TABLE: Mapping[str, Metric] = {metric.name: metric for metric in (*OF_REQUESTS, *OF_GATEWAY, *OF_SIDECAR)}
"""All metrics, by name."""

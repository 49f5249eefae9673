"""``/metrics``: what the records of requests add up to, and the sidecar's own figures, in Prometheus' text format."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client import Metric as Family
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from ..core.gateway import Gateway
from ..core.records import Record
from ..surfaces.faults import Refused
from . import names
from .engine_figures import Figures, ask, families, family
from .labels import SUCCESSES, Models, error_type_of, operation_of, outcome_of, provider_of
from .metric import Metric

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class RequestMetrics:
    """Counts each record once, when its request has ended."""

    def __init__(self, registry: CollectorRegistry, models: Models) -> None:
        self._models = models
        self._requests = _counter(names.REQUESTS, registry)
        self._duration = _histogram(names.DURATION, registry)
        self._first_token = _histogram(names.TIME_TO_FIRST_TOKEN, registry)
        self._output_token = _histogram(names.TIME_PER_OUTPUT_TOKEN, registry)
        self._usage = _histogram(names.TOKEN_USAGE, registry)
        self._tokens = _counter(names.TOKENS_BY_KEY, registry)
        self._longest_gap = _histogram(names.LONGEST_GAP, registry)
        self._pings = _counter(names.PINGS, registry)
        self._sent_bytes = _counter(names.SENT_BYTES, registry)
        self._retries = _counter(names.RETRIES, registry)
        self._ignoring = _counter(names.IGNORING, registry)

    def count(self, record: Record) -> None:
        """Count a record whose request has ended."""
        surface, operation, model = record.surface, operation_of(record), self._models.name_of(record)
        labels = (surface, operation, provider_of(record), model)
        self._requests.labels(surface, operation, outcome_of(record), record.key).inc()
        self._duration.labels(*labels, error_type_of(record)).observe(record.duration_s or 0.0)
        self._pings.labels(surface).inc(record.pings)
        self._sent_bytes.labels(surface).inc(record.sent_bytes)
        self._retries.labels(surface).inc(record.retry > 0)
        self._ignoring.labels(surface).inc(bool(record.ignored))
        if record.longest_gap_s is not None:
            self._longest_gap.labels(surface, model).observe(record.longest_gap_s)
        self._count_times(record, labels)
        self._count_tokens(record, labels, model)

    def _count_times(self, record: Record, labels: tuple[str, ...]) -> None:
        if record.outcome not in SUCCESSES:
            return
        if record.first_token_s is not None:
            self._first_token.labels(*labels).observe(record.first_token_s)
        decode_s = None if record.timing is None else record.timing.decode_s
        if decode_s is not None and record.tokens > 1:
            self._output_token.labels(*labels).observe(decode_s / (record.tokens - 1))

    def _count_tokens(self, record: Record, labels: tuple[str, ...], model: str) -> None:
        usage = record.usage
        if usage is None:
            # Of an answer that was cut off only its own tokens are known.
            if record.tokens:
                self._tokens.labels(model, record.key, "completion").inc(record.tokens)
            return
        self._usage.labels(*labels, "input").observe(usage.prompt_tokens)
        self._usage.labels(*labels, "output").observe(usage.completion_tokens)
        counts = {"prompt": usage.prompt_tokens, "cached": usage.cached_tokens, "completion": usage.completion_tokens}
        for kind, count in {**counts, "reasoning": usage.reasoning_tokens or 0}.items():
            self._tokens.labels(model, record.key, kind).inc(count)


class Metrics:
    """All metrics of a gateway, in a registry of its own. They count since ``began_ns``, nanoseconds since 1970."""

    def __init__(self, gateway: Gateway) -> None:
        # A second series for each would be told, which PromQL has no use for.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.began_ns = time.time_ns()
        self._gateway = gateway
        self._registry = CollectorRegistry()
        offered = {offer.name for offer in gateway.settings.models}
        gateway.records.listeners.append(RequestMetrics(self._registry, Models(offered)).count)

    async def exposition(self) -> bytes:
        """The whole text."""
        return generate_latest(_Collected(await self.families()))

    async def families(self) -> list[Family]:
        """Every metric as it is now; the sidecar's figures are left out while it does not answer."""
        try:
            figures = await ask(self._gateway.sidecar)
        except Refused:  # it is starting
            figures = None
        return [*self._registry.collect(), *_Now(self._gateway, figures).collect()]


@dataclass(frozen=True)
class _Collected(Collector):
    """Metrics as they were collected."""

    families: list[Family]

    def collect(self) -> list[Family]:
        return self.families


class _Now:
    """The state of the gateway and of its sidecar, as this scrape found them."""

    def __init__(self, gateway: Gateway, figures: Figures | None) -> None:
        self._gateway = gateway
        self._figures = figures

    def collect(self) -> Iterator[Family]:
        gateway = self._gateway
        values = {
            "up": self._figures is not None,
            "gateway_draining": gateway.is_draining,
            "requests_running": len(gateway.records.running),
        }
        for name, value in values.items():
            made = family(names.TABLE[f"mlx_sidecar_{name}"])
            made.add_metric((), value)
            yield made
        for name, outcomes in {"spans": gateway.spans, "metric_exports": gateway.exports}.items():
            made = family(names.TABLE[f"mlx_sidecar_{name}"])
            for outcome, count in outcomes.items():
                made.add_metric((outcome,), count)
            yield made
        if self._figures is not None:
            yield from families(self._figures)


def _counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


def _histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    return Histogram(metric.name, metric.help, metric.labels, buckets=metric.bounds, registry=registry)

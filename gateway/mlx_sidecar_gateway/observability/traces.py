"""Spans of OpenTelemetry, made of each record when its request has ended, and sent from a thread of their own."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from ..core.gateway import Gateway
from ..core.records import Record, Records
from .labels import OTHER, Models, error_type_of, operation_of, provider_of
from .otel_environment import CannotExport, check_protocol, resource
from .phases import phases_of

log = logging.getLogger("mlx_sidecar_gateway")

MOST_PENDING = 2048  # spans that may wait for the collector; those of further requests are dropped
_UNTRACED = frozenset({"/metrics", "/stats"})  # routes that are asked for every few seconds
_LAST_SPANS_S = 5.0  # for what is pending when the gateway ends


class Traces:
    """Turns records into spans, and counts in ``counts`` the spans that were ``sent``, ``failed`` or ``dropped``.

    Telling one takes no time that depends on the collector: spans wait in a queue, and while ``MOST_PENDING`` do
    further ones are dropped. Without an ``exporter`` they go where the environment's ``OTEL_…`` say. Raises
    ``CannotExport``.
    """

    def __init__(self, counts: Counter[str], models: Models, exporter: SpanExporter | None = None) -> None:
        self._counts, self._models = counts, models
        self._told = 0
        check_protocol("TRACES")
        try:
            self._exporter = _Counting(exporter or OTLPSpanExporter(), counts)
            # A full queue would drop without a count. This one is never full: ``tell`` keeps to the same bound.
            processor = BatchSpanProcessor(self._exporter, max_queue_size=MOST_PENDING)
        except ValueError as error:
            raise CannotExport(f"a value of OTEL_… in the environment: {error}") from error
        self._provider = TracerProvider(resource=resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("mlx_sidecar_gateway")
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def of(cls, gateway: Gateway, exporter: SpanExporter | None = None) -> Traces:
        """Those of a gateway, whose records they do not hear yet."""
        return cls(gateway.spans, Models({offer.name for offer in gateway.settings.models}), exporter)

    @contextmanager
    def hearing(self, records: Records) -> Iterator[None]:
        """Tell every record that ends in this block; leaving it sends what is pending."""
        records.listeners.append(self.tell)
        try:
            yield
        finally:
            records.listeners.remove(self.tell)
            self.close()

    def tell(self, record: Record) -> None:
        """Make the spans of a request that has ended."""
        if record.route in _UNTRACED:
            return
        phases = phases_of(record)
        if self._told - self._exporter.done + 1 + len(phases) > MOST_PENDING:
            self._counts["dropped"] += 1 + len(phases)
            return
        came_ns = round(record.came_unix_s * 1e9)
        end_ns = came_ns + round((record.duration_s or 0.0) * 1e9)
        span = self._tracer.start_span(
            self._name(record), self._parent(record), SpanKind.SERVER, _attributes(record), start_time=came_ns
        )
        if error := error_type_of(record):
            span.set_status(Status(StatusCode.ERROR, record.message or error))
        for call_id, name in record.tool_calls:
            span.add_event("tool_call", {"gen_ai.tool.call.id": call_id, "gen_ai.tool.name": name}, end_ns)
        inside = set_span_in_context(span, Context())
        for phase in phases:
            child = self._tracer.start_span(phase.name, inside, start_time=came_ns + round(phase.began_s * 1e9))
            child.end(came_ns + round(phase.ended_s * 1e9))
        self._told += (1 + len(phases)) * span.is_recording()
        span.end(end_ns)

    def close(self) -> None:
        """Send what is pending, within ``_LAST_SPANS_S``; the rest is lost with this process."""
        sending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(_LAST_SPANS_S)
        if lost := self._told - self._exporter.done:
            log.warning("%d spans were not sent before the end", lost)

    def _name(self, record: Record) -> str:
        """That of the operation and its model; of what is no operation the method and its route."""
        operation = operation_of(record)
        if operation == OTHER:
            return f"{record.method} {record.route}".strip()
        return f"{operation} {self._models.name_of(record)}".strip()

    def _parent(self, record: Record) -> Context:
        """The context of the client's span; an empty one, which begins a trace, if it told of none."""
        carrier = {"traceparent": record.traceparent, "tracestate": record.tracestate}
        return self._propagator.extract({name: value for name, value in carrier.items() if value}, Context())


class _Counting(SpanExporter):
    """An exporter that counts what it has done with: ``done`` are all spans, however it went."""

    def __init__(self, exporter: SpanExporter, counts: Counter[str]) -> None:
        self._exporter, self._counts = exporter, counts
        self.done = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        outcome = "failed"
        try:
            result = self._exporter.export(spans)
            if result is SpanExportResult.SUCCESS:
                outcome = "sent"
            return result
        finally:
            # Only the processor's thread exports, and nothing else counts these.
            self._counts[outcome] += len(spans)
            self.done += len(spans)

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _attributes(record: Record) -> dict[str, AttributeValue]:
    """The attributes of a request's span, by OpenTelemetry's conventions where these have one."""
    made: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": operation_of(record),
        "gen_ai.provider.name": provider_of(record),
        "gen_ai.request.model": record.model or None,
        "http.request.method": record.method,
        "http.route": record.route or None,
        "http.response.status_code": record.status or None,
        "http.response.header.x-request-id": (record.id,),
        "url.path": record.path,
        "user_agent.original": record.client or None,
        "http.request.resend_count": record.retry or None,
        "error.type": error_type_of(record) or None,
        "mlx_sidecar.surface": record.surface,
        "mlx_sidecar.key": record.key or None,
        "mlx_sidecar.priority": record.priority or None,
        "mlx_sidecar.ignored": record.ignored or None,
        "mlx_sidecar.pings": record.pings or None,
        "mlx_sidecar.longest_gap_s": record.longest_gap_s,
    }
    made |= _generation(record) if record.generates else {}
    return {name: value for name, value in made.items() if value is not None}


def _generation(record: Record) -> dict[str, AttributeValue | None]:
    usage = record.usage
    return {
        "gen_ai.request.stream": record.is_streamed,
        "gen_ai.response.finish_reasons": None if usage is None else (record.outcome,),
        "gen_ai.response.time_to_first_chunk": record.first_token_s if record.is_streamed else None,
        "gen_ai.usage.input_tokens": None if usage is None else usage.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": None if usage is None else usage.cached_tokens,
        "gen_ai.usage.output_tokens": record.tokens,
        "gen_ai.usage.reasoning.output_tokens": None if usage is None else usage.reasoning_tokens,
    }

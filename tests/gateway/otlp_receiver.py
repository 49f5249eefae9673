"""A collector of traces and metrics: OTLP over HTTP, decoded with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.gateway.support import PATIENCE_S


@dataclass
class Received:
    """One span, with plain values."""

    name: str
    trace: str
    id: str
    parent: str
    began_ns: int
    ended_ns: int
    kind: int
    is_error: bool
    message: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]


@dataclass
class Receiver:
    """The messages that have come, and the address for more."""

    url: str = ""
    spans: list[Received] = field(default_factory=list)
    exports: list[list[Metric]] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, path: str, body: bytes) -> bytes:
        """Keep what was sent to ``path``; returns the answer."""
        with self.changed:
            self.changed.notify_all()
            if path == "/v1/metrics":
                self._take_metrics(ExportMetricsServiceRequest.FromString(body))
                return bytes(ExportMetricsServiceResponse().SerializeToString())
            assert path == "/v1/traces"
            self._take_spans(ExportTraceServiceRequest.FromString(body))
            return bytes(ExportTraceServiceResponse().SerializeToString())

    def wait_for(self, is_there: Callable[[], bool]) -> None:
        """Return when what has come is enough."""
        with self.changed:
            assert self.changed.wait_for(is_there, PATIENCE_S)

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        self._take_services(each.resource for each in request.resource_metrics)
        scopes = [scope for resource in request.resource_metrics for scope in resource.scope_metrics]
        self.exports.append([metric for scope in scopes for metric in scope.metrics])

    def _take_spans(self, request: ExportTraceServiceRequest) -> None:
        self._take_services(each.resource for each in request.resource_spans)
        scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
        self.spans += [_received(span) for scope in scopes for span in scope.spans]

    def _take_services(self, resources: Iterable[Resource]) -> None:
        for resource in resources:
            told = {pair.key: _plain(pair.value) for pair in resource.attributes}
            self.services.add(str(told["service.name"]))

    @property
    def requests(self) -> list[Received]:
        """The spans that are whole requests."""
        return [span for span in self.spans if span.kind == Span.SPAN_KIND_SERVER]

    def inside(self, span: Received) -> list[Received]:
        """The children of a span, in the order of their times."""
        children = [child for child in self.spans if child.parent == span.id]
        return sorted(children, key=lambda child: (child.began_ns, child.ended_ns))


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on loopback, for this block."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            plain = gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body
            answer = receiver.take(self.path, plain)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def _received(span: Span) -> Received:
    return Received(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        kind=span.kind,
        is_error=span.status.code == span.status.STATUS_CODE_ERROR,
        message=span.status.message,
        attributes={pair.key: _plain(pair.value) for pair in span.attributes},
        events=[(event.name, {pair.key: _plain(pair.value) for pair in event.attributes}) for event in span.events],
    )


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    return None if kind is None else cast("Any", getattr(value, kind))

"""Metrics of ``--otel``: what a scrape tells, by the names of the conventions, sent without delaying an answer."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client import Histogram as PrometheusHistogram
from prometheus_client import Metric as Family

from mlx_sidecar_gateway import server
from mlx_sidecar_gateway.core.gateway import Gateway
from mlx_sidecar_gateway.observability import engine_figures, otlp_metrics
from mlx_sidecar_gateway.observability.names import TABLE
from mlx_sidecar_gateway.observability.otel_environment import CannotExport, is_wanted
from mlx_sidecar_gateway.observability.otlp_metrics import SentMetrics
from mlx_sidecar_gateway.observability.otlp_points import Starts, metrics_of
from mlx_sidecar_gateway.settings import Settings
from mlx_sidecar_gateway.surfaces.surface import Offer
from tests.gateway.gateway_process import PATIENCE_S, gateway_process
from tests.gateway.in_memory import InMemory, gateway_over, in_memory
from tests.gateway.otlp_receiver import Receiver, receiving
from tests.gateway.otlp_series import MOVING, name_of, scraped_series, series_of
from tests.gateway.scrapes import scrape

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


def body(**more: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": "Hi"}], **more}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_figures, "ANSWER_S", PATIENCE_S)  # a busy machine is no sidecar that hangs


@pytest.fixture(scope="module")
async def sidecar(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory() as made:
        yield made


@pytest.fixture
def memory(sidecar: InMemory) -> InMemory:
    return gateway_over(sidecar.sidecar, models=(Offer("small", "fake?tokens=20"),))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def sent_to(receiver: Receiver, memory: InMemory) -> SentMetrics:
    return SentMetrics.of(memory.gateway, OTLPMetricExporter(f"{receiver.url}/v1/metrics"))


def named(metrics: list[Metric], name: str) -> Metric:
    [metric] = [metric for metric in metrics if metric.name == name]
    return metric


# The metrics that are sent.


async def test_an_export_tells_every_series_of_a_scrape_with_its_value(memory: InMemory, receiver: Receiver) -> None:
    for more in ({}, {"stream": True}, {"n": 2}, {"model": "none"}):
        await memory.visit(CHAT, body(**more)).run()
    await memory.sidecar_is_idle()
    await sent_to(receiver, memory).send()
    told = await scrape(memory)
    sent, scraped = series_of(receiver.exports[0]), scraped_series(told.families.values())
    assert sent.keys() == scraped.keys()
    assert {key: value for key, value in sent.items() if key[0] not in MOVING} == {
        key: value for key, value in scraped.items() if key[0] not in MOVING
    }
    assert receiver.services == {"mlx-sidecar-gateway"}


async def test_names_and_attributes_of_the_conventions_have_their_dots(memory: InMemory, receiver: Receiver) -> None:
    for more in ({}, {"n": 2}):
        await memory.visit(CHAT, body(**more)).run()
    await sent_to(receiver, memory).send()
    metric = named(receiver.exports[0], "gen_ai.server.request.duration")
    assert metric.unit == "s"
    attributes = [
        {pair.key: pair.value.string_value for pair in point.attributes} for point in metric.histogram.data_points
    ]
    success = {
        "surface": "openai",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mlx_sidecar",
        "gen_ai.request.model": "small",
    }
    assert attributes == [success, {**success, "error.type": "unsupported_parameter"}]
    usage = named(receiver.exports[0], "gen_ai.client.token.usage")
    assert {pair.key for point in usage.histogram.data_points for pair in point.attributes} == {
        *success,
        "gen_ai.token.type",
    }


async def test_totals_are_cumulative_since_the_gateway_began(memory: InMemory, receiver: Receiver) -> None:
    sent = sent_to(receiver, memory)
    for _ in range(2):
        await memory.visit(CHAT, body()).run()
        await sent.send()
    points = [named(metrics, "mlx_sidecar_requests").sum.data_points[0] for metrics in receiver.exports]
    assert [point.as_double for point in points] == [1, 2]
    assert {point.start_time_unix_nano for point in points} == {memory.gateway.metrics.began_ns}
    assert points[0].start_time_unix_nano < points[0].time_unix_nano < points[1].time_unix_nano <= time.time_ns()
    for metric in receiver.exports[0]:
        totals = [getattr(metric, kind) for kind in ("sum", "histogram") if metric.HasField(kind)]
        assert {each.aggregation_temporality for each in totals} <= {
            AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        }


async def test_counters_of_an_engine_that_was_started_again_have_a_start_of_their_own(receiver: Receiver) -> None:
    async with in_memory(models=(Offer("small", "fake?tokens=20"),)) as memory:
        sent = sent_to(receiver, memory)
        for _ in range(3):
            await memory.visit(CHAT, body()).run()
        await sent.send()
        memory.sidecar.kill_engine()
        await memory.visit(CHAT, body()).run()
        await sent.send()
    before, after = (named(metrics, "mlx_sidecar_engine_requests").sum.data_points[0] for metrics in receiver.exports)
    assert (before.as_double, after.as_double) == (3, 1)
    assert before.start_time_unix_nano < after.start_time_unix_nano == before.time_unix_nano
    own = [named(metrics, "mlx_sidecar_requests").sum.data_points[0] for metrics in receiver.exports]
    assert own[0].start_time_unix_nano == own[1].start_time_unix_nano


async def test_what_is_not_known_of_a_histogram_is_not_sent(memory: InMemory, receiver: Receiver) -> None:
    await memory.visit(CHAT, body()).run()
    await sent_to(receiver, memory).send()
    points = [point for metric in receiver.exports[0] for point in metric.histogram.data_points]
    assert points
    assert not [point for point in points if point.HasField("min") or point.HasField("max")]
    [queued] = named(receiver.exports[0], "mlx_sidecar_engine_queue_seconds").histogram.data_points
    assert not queued.HasField("sum")


async def test_while_the_sidecar_starts_its_figures_are_left_out(receiver: Receiver) -> None:
    async with in_memory() as memory:
        memory.gateway._sidecar = None
        await sent_to(receiver, memory).send()
    assert named(receiver.exports[0], "mlx_sidecar_up").gauge.data_points[0].as_double == 0
    assert "mlx_sidecar_engine_state" not in {metric.name for metric in receiver.exports[0]}


def test_every_metric_of_the_table_keeps_its_name_where_a_receiver_makes_it_prometheus_own() -> None:
    registry = CollectorRegistry()
    kinds = {"counter": PrometheusCounter, "gauge": PrometheusGauge, "histogram": PrometheusHistogram}
    for entry in TABLE.values():
        made = kinds[entry.kind](entry.name, entry.help, entry.labels, registry=registry)
        if entry.labels:
            made.labels(*entry.labels)
    for metric, entry in zip(encoded(list(registry.collect())), TABLE.values(), strict=True):
        assert name_of(metric) == entry.series.removesuffix("_bucket")


# Any metrics.

values = st.floats(0, 1e9) | st.integers(0, 10**6).map(float)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), values), max_size=20),
    st.lists(st.floats(-1e6, 1e6), max_size=3),
    st.lists(st.tuples(st.sampled_from("ab"), values), max_size=20),
    st.sets(st.floats(0.001, 1e6), min_size=1, max_size=6),
)
def test_any_registry_comes_over_as_it_is(
    counted: list[tuple[str, float]],
    measured: list[float],
    observed: list[tuple[str, float]],
    bounds: set[float],
) -> None:
    registry = CollectorRegistry()
    counter = PrometheusCounter("one", "", ["label"], registry=registry)
    gauge = PrometheusGauge("two", "", registry=registry)
    histogram = PrometheusHistogram("three", "", ["label"], registry=registry, buckets=sorted(bounds))
    for label, value in counted:
        counter.labels(label).inc(value)
    for value in measured:
        gauge.set(value)
    for label, value in observed:
        histogram.labels(label).observe(value)
    families = list(registry.collect())
    told = {key: value for key, value in scraped_series(families).items() if not key[0].endswith("_created")}
    assert series_of(encoded(families)) == told


def encoded(families: list[Family]) -> list[Metric]:
    """Families as they are on the wire."""
    # Without the time of their making, as the gateway has it.
    for family in families:
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    metrics = list(metrics_of(families, Starts(0), 1))
    scope = ScopeMetrics(InstrumentationScope("tests"), metrics, "")
    request = encode_metrics(MetricsData([ResourceMetrics(Resource({}), [scope], "")]))
    return list(request.resource_metrics[0].scope_metrics[0].metrics) if metrics else []


@given(st.lists(st.integers(0, 5), min_size=1))
def test_a_series_starts_anew_at_the_export_before_the_one_in_which_it_fell(counts: list[int]) -> None:
    starts, began = Starts(7), [7]
    for now, (before, count) in enumerate(zip([0, *counts], counts, strict=False), 8):
        began.append(now - 1 if count < before else began[-1])
        assert starts.of("name", (), count, now) == began[-1] < now


def test_a_family_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="one is a summary"):
        list(metrics_of([Family("one", "", "summary")], Starts(0), 1))


# A collector that does not take them.


class Blocked(MetricExporter):
    """Takes nothing until it may, and then says ``result`` or raises it."""

    def __init__(self, result: MetricExportResult | Exception) -> None:
        super().__init__()
        self.may, self.is_asked = threading.Event(), threading.Event()
        self._result = result

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        self.is_asked.set()
        assert self.may.wait(PATIENCE_S)
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        pass


@pytest.mark.parametrize("result", [MetricExportResult.FAILURE, OSError("no route")])
async def test_an_export_that_fails_is_counted_and_told_in_the_metrics(
    memory: InMemory, result: MetricExportResult | Exception
) -> None:
    exporter = Blocked(result)
    exporter.may.set()
    sent = SentMetrics.of(memory.gateway, exporter)
    await sent.send()
    told = await scrape(memory)
    assert told.total("mlx_sidecar_metric_exports_total", outcome="failed") == 1
    assert told.total("mlx_sidecar_metric_exports_total", outcome="sent") == 0


async def test_while_a_collector_hangs_requests_are_answered_and_the_end_does_not_wait_for_it(
    memory: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_metrics, "_LAST_EXPORT_S", 0.01)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1")
    exporter = Blocked(MetricExportResult.SUCCESS)
    sent = SentMetrics.of(memory.gateway, exporter)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sent.run)
        await anyio.to_thread.run_sync(exporter.is_asked.wait, PATIENCE_S)
        assert (await memory.visit(CHAT, body()).run()).status == 200
        await sent.end()
        tasks.cancel_scope.cancel()
    assert not exporter.may.is_set()
    exporter.may.set()


# The environment.


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: http/protobuf alone is sent"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/json: "),
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon", "OTEL_METRIC_EXPORT_INTERVAL=soon: no number of milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "OTEL_METRIC_EXPORT_INTERVAL=0: no number of milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "inf", "OTEL_METRIC_EXPORT_INTERVAL=inf: no number of milliseconds"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "=delta: cumulative alone is sent"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
            ": explicit_bucket_histogram alone is sent",
        ),
    ],
)
async def test_an_environment_that_cannot_be_done_is_refused(
    memory: InMemory, name: str, setting: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, setting)
    with pytest.raises(CannotExport, match=re.escape(words)):
        SentMetrics.of(memory.gateway)


@pytest.mark.parametrize("signal_name", ["TRACES", "METRICS"])
@pytest.mark.parametrize(
    ("setting", "expected"), [(None, True), ("", True), ("otlp", True), ("none", False), (" none ", False)]
)
def test_each_signal_can_be_switched_off(
    signal_name: Any, setting: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting is not None:
        monkeypatch.setenv(f"OTEL_{signal_name}_EXPORTER", setting)
    assert is_wanted(signal_name) == expected


def test_the_switch_of_the_whole_sdk_holds_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    assert not is_wanted("TRACES")
    assert not is_wanted("METRICS")


def test_an_exporter_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console")
    with pytest.raises(CannotExport, match="OTEL_METRICS_EXPORTER=console: neither otlp nor none"):
        is_wanted("METRICS")


# The command.


def test_the_command_sends_metrics_at_the_interval_and_the_last_before_it_ends(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    with gateway_process("--engine", "fake", "--otel") as gateway:
        receiver.wait_for(lambda: len(receiver.exports) >= 2)
        assert gateway.get("/v1/models")[0] == 200
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(PATIENCE_S) == 0
    last = series_of(receiver.exports[-1])
    requests = {labels: count for (name, labels), count in last.items() if name == "mlx_sidecar_requests_total"}
    assert sum(requests.values()) == 1
    assert last["mlx_sidecar_gateway_draining", frozenset()] == 1
    assert [span.name for span in receiver.requests] == ["GET /models"]


@pytest.mark.parametrize(
    ("switched_off", "sends_spans", "sends_metrics"), [("", 1, 1), ("METRICS", 1, 0), ("TRACES", 0, 1)]
)
async def test_the_gateway_sends_the_one_without_the_other(
    sidecar: InMemory, switched_off: str, sends_spans: int, sends_metrics: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if switched_off:
        monkeypatch.setenv(f"OTEL_{switched_off}_EXPORTER", "none")
    gateway = gateway_over(sidecar.sidecar, otel=True).gateway
    listeners = len(gateway.records.listeners)
    with server._traced(gateway) as metrics:
        assert len(gateway.records.listeners) - listeners == sends_spans
        assert (metrics is not None) == sends_metrics


def test_an_exporter_that_is_not_there_hinders_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    words = "--otel: OTEL_TRACES_EXPORTER=zipkin: neither otlp nor none"
    with pytest.raises(server.CannotStart, match=words), server._traced(Gateway(Settings(otel=True))):
        pass

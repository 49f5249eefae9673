"""The spans and metrics that ``--otel`` sends, through a collector that is not our own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from mlx_sidecar_gateway.observability import engine_figures
from mlx_sidecar_gateway.observability.otlp_metrics import SentMetrics
from mlx_sidecar_gateway.observability.traces import Traces
from mlx_sidecar_gateway.surfaces.surface import Offer
from tests.gateway.collector import agent, collector
from tests.gateway.in_memory import InMemory, in_memory
from tests.gateway.otlp_receiver import Receiver, receiving
from tests.gateway.otlp_series import MOVING, scraped_series, series_of
from tests.gateway.scrapes import Scraped, scrape
from tests.gateway.support import HELLO, PATIENCE_S

ROTEL = agent() or Path("rotel-agent")

# On Linux a missing one fails in a pipeline.
needs_collector = pytest.mark.skipif(
    not ROTEL.exists() and not (os.environ.get("CI") and sys.platform == "linux"), reason="the package rotel is missing"
)


@needs_collector
@pytest.mark.anyio
async def test_a_collector_passes_on_the_spans_of_requests_and_the_series_of_a_scrape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_figures, "ANSWER_S", PATIENCE_S)  # a busy machine is no sidecar that hangs
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    with receiving() as receiver, collector(ROTEL, receiver.url) as url:
        async with in_memory(models=(Offer("small", "fake?tokens=20"),)) as memory:
            ids, told = await asked_of(memory, url)
        await anyio.to_thread.run_sync(
            receiver.wait_for, lambda: len(receiver.requests) == len(ids) and bool(receiver.exports)
        )
    check_spans(receiver, ids)
    sent = series_of(metric for metrics in receiver.exports for metric in metrics)
    scraped = scraped_series(told.families.values())
    assert sent.keys() == scraped.keys()
    assert {key: sent[key] for key in sent if key[0] not in MOVING} == {
        key: scraped[key] for key in scraped if key[0] not in MOVING
    }
    assert receiver.services == {"ours"}


async def asked_of(memory: InMemory, url: str) -> tuple[set[str], Scraped]:
    """Ids of answers whose spans and series are sent to ``url``, and a scrape of them."""
    with Traces.of(memory.gateway, OTLPSpanExporter(f"{url}/v1/traces")).hearing(memory.gateway.records):
        ids = {await chat(memory, stream=stream) for stream in (False, True)}
    await memory.sidecar_is_idle()
    await SentMetrics.of(memory.gateway, OTLPMetricExporter(f"{url}/v1/metrics")).send()
    assert memory.gateway.exports == {"sent": 1, "failed": 0}
    assert memory.gateway.spans["failed"] == memory.gateway.spans["dropped"] == 0
    return ids, await scrape(memory)


def check_spans(receiver: Receiver, ids: set[str]) -> None:
    told = [span.attributes["http.response.header.x-request-id"] for span in receiver.requests]
    assert sorted(told) == sorted([each] for each in ids)
    for span in receiver.requests:
        assert span.name == "chat small"
        assert [child.name for child in receiver.inside(span)][-2:] == ["prefill", "decode"]


async def chat(memory: InMemory, *, stream: bool) -> str:
    """A whole answer; returns its id."""
    visit = await memory.visit("/v1/chat/completions", {"model": "small", "messages": HELLO, "stream": stream}).run()
    assert visit.status == 200
    return visit.headers["x-request-id"]

"""A thousand requests that end in every way: each has one line and one span, with the id of its answer, and is counted.

The histograms of ``/metrics`` are held against the lines, which tell times rounded to a microsecond.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind

from mlx_sidecar_gateway.observability.labels import SUCCESSES
from mlx_sidecar_gateway.observability.request_log import LogSettings, RequestLog
from mlx_sidecar_gateway.observability.traces import Traces
from tests.gateway.in_memory import InMemory, Visit, in_memory
from tests.gateway.scrapes import Scraped, scrape
from tests.gateway.support import HELLO

REQUESTS, AT_ONCE, KILLS = 1000, 16, 3
LONG = "fake?tokens=5000&context=9000&delay_ms=5"
SHORT = "fake?tokens=5"
ROUNDED_S = 1e-6  # of times in the log

Line = dict[str, Any]


class Crowd:
    """Clients that ask for what chance gives them."""

    def __init__(self, memory: InMemory, chance: Random) -> None:
        self._memory = memory
        self._chance = chance
        self.visits: list[Visit] = []
        self.traces: dict[str, Visit] = {}

    async def one(self) -> None:
        """One request, from its beginning to its end."""
        ways = (self._answered, self._refused, self._left_at_once, self._left_later)
        await self._chance.choices(ways, (60, 20, 10, 10))[0]()

    def _visit(self, body: dict[str, Any]) -> Visit:
        path = self._chance.choice(("/v1/chat/completions", "/v1/messages", "/api/chat"))
        trace = f"{len(self.visits) + 1:032x}"
        headers = [("traceparent", f"00-{trace}-b7ad6b7169203331-01")] if self._chance.random() < 0.5 else []
        visit = self._memory.visit(path, {"messages": HELLO, "max_tokens": 9000, **body}, headers=headers)
        self.visits.append(visit)
        self.traces |= {trace: visit} if headers else {}
        return visit

    async def _answered(self) -> None:
        await self._visit({"model": SHORT, "stream": self._chance.random() < 0.5}).run()

    async def _refused(self) -> None:
        wrong = self._chance.choice(({"temperature": "hot"}, {"model": "/etc"}, {"messages": None}))
        await self._visit({"model": SHORT, **wrong}).run()

    async def _left_at_once(self) -> None:
        visit = self._visit({"model": LONG, "stream": self._chance.random() < 0.5})
        visit.leaves.set()
        await visit.run()

    async def _left_later(self) -> None:
        visit = self._visit({"model": LONG, "stream": True})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(visit.run)
            await visit.has_heard.wait()
            visit.leaves.set()


async def all_of(memory: InMemory, crowd: Crowd) -> None:
    """``REQUESTS`` requests, some at once, and deaths of the engine in between."""
    places, begun = anyio.CapacityLimiter(AT_ONCE), 0

    async def one() -> None:
        nonlocal begun
        async with places:
            begun += 1
            if begun % (REQUESTS // (KILLS + 1)) == 0:
                memory.sidecar.kill_engine()
            await crowd.one()

    async with anyio.create_task_group() as tasks:
        for _ in range(REQUESTS):
            tasks.start_soon(one)


@pytest.mark.anyio
async def test_each_of_a_thousand_requests_has_one_line_and_one_span_with_its_id_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    log = RequestLog(LogSettings(file=tmp_path / "log", limit_bytes=100_000, older=100))
    exporter = InMemorySpanExporter()
    async with in_memory() as memory:
        log.attach(memory.gateway.records)
        crowd = Crowd(memory, Random(1))
        with Traces.of(memory.gateway, exporter).hearing(memory.gateway.records):
            await all_of(memory, crowd)
        restarts = (await memory.sidecar.stats()).engine.restarts
        told = await scrape(memory)
    log.close()
    lines = [json.loads(line) for part in tmp_path.iterdir() for line in part.read_text().splitlines()]
    lines = [line for line in lines if line["path"] != "/metrics"]
    spans = exporter.get_finished_spans()
    assert restarts
    assert memory.gateway.spans == {"sent": len(spans), "failed": 0, "dropped": 0}
    check_lines(lines, crowd)
    check_spans(spans, {line["id"]: line for line in lines}, crowd)
    check_histograms(told, lines)


def check_lines(lines: list[Line], crowd: Crowd) -> None:
    assert len(lines) == len({line["id"] for line in lines}) == REQUESTS
    statuses = {visit.headers["x-request-id"]: visit.status for visit in crowd.visits if visit.status}
    assert {line["id"]: line["status"] for line in lines if line["status"]} == statuses
    outcomes = Counter(line["outcome"] for line in lines)
    assert {"stop", "disconnected", "invalid_params", "model_not_found"} <= outcomes.keys()
    assert all(line.get("failed", False) == (line["status"] >= 400) for line in lines)


def check_spans(spans: Iterable[ReadableSpan], lines: dict[str, Line], crowd: Crowd) -> None:
    """Each request is one span with its line's figures; the others are phases inside of one."""
    requests = [span for span in spans if span.kind is SpanKind.SERVER]
    assert len(requests) == REQUESTS
    by_id = {id_of(span): span for span in requests}
    assert by_id.keys() == lines.keys()
    for request_id, span in by_id.items():
        line, attributes = lines[request_id], span.attributes or {}
        assert attributes.get("http.response.status_code", 0) == line["status"]
        assert attributes.get("error.type", "") == error_type_of(line)
        assert seconds_of(span) == pytest.approx(line["duration_s"], abs=2 * ROUNDED_S)
    traces = {f"{context_of(span).trace_id:032x}": span for span in requests}
    assert len(traces) == REQUESTS
    assert crowd.traces.keys() <= traces.keys()
    for trace, visit in crowd.traces.items():
        assert visit.headers.get("x-request-id", id_of(traces[trace])) == id_of(traces[trace])
    parents = {context_of(span).span_id for span in requests}
    for span in spans:
        assert span.kind is SpanKind.SERVER or (span.parent is not None and span.parent.span_id in parents)


def check_histograms(told: Scraped, lines: list[Line]) -> None:
    ended = [line for line in lines if line["outcome"] in SUCCESSES]
    whole = [line for line in ended if line.get("decode_s") is not None and line["completion_tokens"] > 1]
    assert whole
    name = "gen_ai_server_request_duration_seconds"
    for surface in {line["surface"] for line in lines}:
        for error_type in {error_type_of(line) for line in lines}:
            group = [line for line in lines if (line["surface"], error_type_of(line)) == (surface, error_type)]
            check_histogram(told, name, group, lambda line: line["duration_s"], surface=surface, error_type=error_type)
    name = "gen_ai_server_time_to_first_token_seconds"
    check_histogram(told, name, [line for line in ended if "first_token_s" in line], lambda line: line["first_token_s"])
    name = "gen_ai_server_time_per_output_token_seconds"
    check_histogram(told, name, whole, lambda line: line["decode_s"] / (line["completion_tokens"] - 1))
    name = "gen_ai_client_token_usage"
    for kind, member in {"input": "prompt_tokens", "output": "completion_tokens"}.items():
        with_usage = [line for line in lines if "prompt_tokens" in line]
        check_histogram(told, name, with_usage, itemgetter(member), gen_ai_token_type=kind)


def check_histogram(
    told: Scraped, name: str, lines: list[Line], value_of: Callable[[Line], float], **labels: str
) -> None:
    """Each bucket has the values of the lines that belong into it; one that is rounded may be in the next."""
    # A label without a value is one that the sample has not.
    named = {label: value for label, value in labels.items() if value}
    without = labels.keys() - named.keys()

    def total(series: str, **more: str) -> float:
        samples = told.samples(series, **named, **more)
        return sum(sample.value for sample in samples if not any(sample.labels.get(label) for label in without))

    values = [value_of(line) for line in lines]
    assert total(f"{name}_count") == len(values)
    assert total(f"{name}_sum") == pytest.approx(sum(values), abs=ROUNDED_S * len(values) + 1e-9)
    for bound in told.values(f"{name}_bucket", "le"):
        low, high = (sum(value <= float(bound) + by_s for value in values) for by_s in (-ROUNDED_S, ROUNDED_S))
        assert low <= total(f"{name}_bucket", le=bound) <= high


def id_of(span: ReadableSpan) -> str:
    ids = (span.attributes or {})["http.response.header.x-request-id"]
    assert isinstance(ids, tuple)
    assert len(ids) == 1
    return str(ids[0])


def context_of(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def error_type_of(line: Line) -> str:
    return "" if line["outcome"] in SUCCESSES else str(line["outcome"])


def seconds_of(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9

"""Spans of ``--otel``: made of the record of each request, sent without delaying an answer, and counted if lost."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mlx_sidecar.cli.arguments import command_line
from mlx_sidecar.cli.failures import Refused
from mlx_sidecar_client.protocol.generate_result import Timing
from mlx_sidecar_gateway.core.records import Record
from mlx_sidecar_gateway.observability.labels import Models
from mlx_sidecar_gateway.observability.otel_environment import CannotExport
from mlx_sidecar_gateway.observability.phases import phases_of
from mlx_sidecar_gateway.observability.traces import MOST_PENDING, Traces
from mlx_sidecar_gateway.surfaces.surface import Offer
from tests.gateway.gateway_process import COMMAND, PATIENCE_S, gateway_process
from tests.gateway.in_memory import InMemory, gateway_over, in_memory
from tests.gateway.otlp_receiver import Received, Receiver, receiving
from tests.gateway.scrapes import scrape
from tests.gateway.scripts import call, script

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def body(**more: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": "Hi"}], **more}


@pytest.fixture(scope="module")
async def sidecar(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory() as made:
        yield made


@pytest.fixture
def memory(sidecar: InMemory) -> InMemory:
    calls = script(call("weigh", '{"kg": 3}'))
    return gateway_over(sidecar.sidecar, models=(Offer("small", "fake?tokens=20"), Offer("calls", calls)))


@contextmanager
def collected(memory: InMemory) -> Iterator[Receiver]:
    """A collector; at the end of the block it has all spans."""
    with receiving() as receiver:
        traces = Traces.of(memory.gateway, OTLPSpanExporter(f"{receiver.url}/v1/traces"))
        with traces.hearing(memory.gateway.records):
            yield receiver
    assert memory.gateway.spans == {"sent": len(receiver.spans), "failed": 0, "dropped": 0}


def only(spans: list[Received]) -> Received:
    [span] = spans
    return span


# Spans.


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_a_span_with_its_phases_inside(memory: InMemory, stream: bool) -> None:
    with collected(memory) as receiver:
        visit = await memory.visit(CHAT, body(stream=stream), headers=[("user-agent", "curl/8")]).run()
    span = only(receiver.requests)
    assert (span.name, span.parent, span.is_error) == ("chat small", "", False)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mlx_sidecar",
        "gen_ai.request.model": "small",
        "gen_ai.request.stream": stream,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.output_tokens": 20,
        "http.route": "/chat/completions",
        "http.response.status_code": 200,
        "http.response.header.x-request-id": [visit.headers["x-request-id"]],
        "user_agent.original": "curl/8",
        "mlx_sidecar.priority": "normal",
    }
    assert expected.items() <= span.attributes.items()
    assert span.attributes["gen_ai.usage.input_tokens"] > 0
    assert ("gen_ai.response.time_to_first_chunk" in span.attributes) == stream
    inside = receiver.inside(span)
    names = [child.name for child in inside]
    assert [name for name in names if name != "load"] == ["queue", "prefill", "decode"]
    for child in inside:
        assert child.trace == span.trace
        assert span.began_ns <= child.began_ns <= child.ended_ns <= span.ended_ns
    assert receiver.services == {"mlx-sidecar-gateway"}


async def test_the_span_of_the_client_is_the_parent(memory: InMemory) -> None:
    headers = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=1")]
    with collected(memory) as receiver:
        await memory.visit(CHAT, body(), headers=headers).run()
    span = only(receiver.requests)
    assert (span.trace, span.parent) == (TRACE, PARENT)
    assert {child.trace for child in receiver.spans} == {TRACE}


@pytest.mark.parametrize("value", ["", "00-zz", f"00-{TRACE}-{PARENT}", "ü" * 300])
async def test_a_parent_that_cannot_be_read_begins_a_trace(memory: InMemory, value: str) -> None:
    with collected(memory) as receiver:
        visit = await memory.visit(CHAT, body(), headers=[("traceparent", value)]).run()
    assert visit.status == 200
    assert only(receiver.requests).parent == ""


async def test_a_client_that_does_not_sample_gets_no_span(memory: InMemory) -> None:
    with collected(memory) as receiver:
        await memory.visit(CHAT, body(), headers=[("traceparent", f"00-{TRACE}-{PARENT}-00")]).run()
    assert not receiver.spans


async def test_a_refused_request_is_an_error_with_its_kind(memory: InMemory) -> None:
    with collected(memory) as receiver:
        await memory.visit(CHAT, body(n=2)).run()
    span = only(receiver.spans)
    assert (span.is_error, span.attributes["error.type"]) == (True, "unsupported_parameter")
    assert "n" in span.message
    assert span.attributes["http.response.status_code"] == 400


async def test_the_name_of_a_model_that_is_not_offered_is_in_no_spans_name(memory: InMemory) -> None:
    with collected(memory) as receiver:
        await memory.visit(CHAT, body(model="secret?")).run()
        await memory.visit("/v1/nothing", {}).run()
    assert [span.name for span in receiver.requests] == ["chat other", "POST"]


async def test_each_call_of_a_tool_is_an_event(memory: InMemory) -> None:
    tools = [{"type": "function", "function": {"name": "weigh", "parameters": {"type": "object"}}}]
    with collected(memory) as receiver:
        await memory.visit(CHAT, body(model="calls", tools=tools, stream=True)).run()
    [(name, attributes)] = only(receiver.requests).events
    assert (name, attributes["gen_ai.tool.name"]) == ("tool_call", "weigh")
    assert attributes["gen_ai.tool.call.id"]


async def test_scrapes_make_no_spans(memory: InMemory) -> None:
    with collected(memory) as receiver:
        await scrape(memory)
    assert not receiver.spans


durations = st.none() | st.floats(0, 100)


@given(st.floats(0, 100), durations, durations, durations, durations, st.floats(0, 100))
def test_phases_follow_each_other_inside_of_their_request(
    queue_s: float,
    load_s: float | None,
    prefill_s: float | None,
    decode_s: float | None,
    first_s: float | None,
    duration_s: float,
) -> None:
    timing = Timing(queue_s=queue_s, load_s=load_s, prefill_s=prefill_s, decode_s=decode_s)
    record = Record("id", "POST", "/", first_token_s=first_s, duration_s=duration_s, timing=timing)
    told, phases = {"load": load_s, "prefill": prefill_s, "decode": decode_s}, phases_of(record)
    names = [phase.name for phase in phases]
    assert names == [
        name for name in ("load", "queue", "prefill", "decode") if name == "queue" or told[name] is not None
    ]
    marks = [0.0, *(mark for phase in phases for mark in phase[1:]), duration_s]
    assert marks == sorted(marks)


def test_a_request_that_generated_nothing_has_no_phases() -> None:
    assert phases_of(Record("id", "GET", "/v1/models", duration_s=1.0)) == []


# A collector that does not take them.


class Blocked(SpanExporter):
    """Takes nothing until it may, or fails."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.may = threading.Event()
        self._result = result

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert self.may.wait(PATIENCE_S)
        return self._result

    def shutdown(self) -> None:
        self.may.set()


def test_spans_that_a_collector_does_not_take_are_dropped_and_counted_and_nobody_waits() -> None:
    exporter, counts = Blocked(), Counter(sent=0, failed=0, dropped=0)
    sending = Traces(counts, Models(()), exporter)
    for number in range(2 * MOST_PENDING):  # would never end if one waited
        sending.tell(Record(str(number), "POST", "/", duration_s=0.1))
    assert counts == {"sent": 0, "failed": 0, "dropped": MOST_PENDING}
    exporter.may.set()
    sending.close()
    assert counts == {"sent": MOST_PENDING, "failed": 0, "dropped": MOST_PENDING}


async def test_spans_that_fail_are_counted_and_told_in_the_metrics(memory: InMemory) -> None:
    exporter = Blocked(SpanExportResult.FAILURE)
    exporter.may.set()
    with Traces.of(memory.gateway, exporter).hearing(memory.gateway.records):
        assert (await memory.visit(CHAT, body()).run()).status == 200
    told = await scrape(memory)
    assert told.total("mlx_sidecar_spans_total", outcome="failed") == told.total("mlx_sidecar_spans_total") >= 4


# The command.


def test_the_command_sends_the_last_spans_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
        with gateway_process("--engine", "fake", "--otel") as gateway:
            assert gateway.get("/v1/models")[0] == 200
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.process.wait(PATIENCE_S) == 0
        span = only(receiver.spans)
    assert (span.name, span.attributes["url.path"]) == ("GET /models", "/v1/models")
    assert receiver.services == {"ours"}


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: http/protobuf alone is sent"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json: "),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1", "a value of OTEL_… in the environment: schedule_delay_millis"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", "a value of OTEL_… in the environment: max_export_batch_size"),
    ],
)
def test_an_environment_that_cannot_be_done_is_refused(
    name: str, setting: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, setting)
    with pytest.raises(CannotExport, match=re.escape(words)):
        Traces(Counter(), Models(()))


def test_the_protocol_of_traces_goes_before_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    Traces(Counter(), Models(())).close()


def test_the_command_does_not_start_in_such_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    done = subprocess.run([*COMMAND, "--engine", "fake", "--otel"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode != 0
    assert "--otel: OTEL_EXPORTER_OTLP_PROTOCOL=grpc" in done.stderr


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter"])
def test_without_its_packages_the_option_is_refused_with_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith("opentelemetry"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    args = command_line(["gateway"]).parse(["gateway", "--otel"])
    with pytest.raises(Refused, match=r"--otel needs .*pip install 'CHECKOUT\[gateway,otel\]'"):
        args.run(args)


def test_without_the_option_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys; from mlx_sidecar_gateway import server; from mlx_sidecar_gateway.core.gateway import Gateway\n"
        "from mlx_sidecar_gateway.settings import Settings; gateway = Gateway(Settings())\n"
        "server.http_server(gateway, None); listeners = list(gateway.records.listeners)\n"
        "with server._traced(gateway):\n"
        "    imported = [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "    print(imported, gateway.records.listeners == listeners)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\n"

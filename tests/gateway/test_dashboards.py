"""The dashboard and the alerts are made from the table, ask for metrics that are there, and are read by Prometheus."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest

from mlx_sidecar_gateway.observability.alerts import ALERTS, BROKEN
from mlx_sidecar_gateway.observability.dashboards import ROWS, files
from mlx_sidecar_gateway.observability.expressions import value
from mlx_sidecar_gateway.observability.labels import OUTCOMES
from mlx_sidecar_gateway.observability.names import TABLE
from tests.gateway.in_memory import ARRIVAL, Arrival, InMemory, holding, in_memory
from tests.gateway.scrapes import Scraped, scrape

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
PROMTOOL = ROOT / ".venv" / "promtool"
LABELS = {label for metric in TABLE.values() for label in metric.labels}
NAME = re.compile(r"\b(?:mlx_sidecar|gen_ai)_\w+")
CHARTS = [panel for panels in ROWS.values() for panel in panels]
EXPRESSIONS = [expression for panel in CHARTS for expression, _ in panel.lines]

needs_promtool = pytest.mark.skipif(
    not os.environ.get("CI") and not PROMTOOL.exists(), reason="no promtool; tools/setup_promtool.sh brings it"
)


def promtool(*words: str, text: str = "") -> str:
    done = subprocess.run([PROMTOOL, *words], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def asked(expression: str) -> set[str]:
    """The series that an expression asks for."""
    return set(NAME.findall(expression)) - LABELS


@pytest.fixture(scope="module")
async def told(anyio_backend: str) -> Scraped:
    """A scrape after requests of several kinds."""
    chat: dict[str, Any] = {"model": "fake?tokens=20", "messages": [{"role": "user", "content": "Hi"}]}
    async with in_memory() as memory:
        for more in ({}, {"n": 2}, {"model": "/none"}):
            await memory.visit("/v1/chat/completions", {**chat, **more}).run()
        await memory.visit("/v1/embeddings", {"model": "fake?dimensions=4", "input": "Hi"}).run()
        await streamed_in_two_parts(memory, chat)
        return await scrape(memory)


async def streamed_in_two_parts(memory: InMemory, chat: dict[str, Any]) -> None:
    arrival = Arrival(3)
    with holding() as gate:
        visit = memory.visit(
            "/v1/chat/completions", {**chat, "model": f"fake?tokens=20&context={gate.context(3)}", "stream": True}
        )

        async def run() -> None:
            ARRIVAL.set(arrival)
            await visit.run()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await arrival.there.wait()
            gate.is_open = True


# The files.


@pytest.mark.parametrize("name", files())
def test_the_files_are_what_the_command_writes(name: str) -> None:
    assert (ROOT / "dashboards" / name).read_text() == files()[name]


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = json.loads(files()["mlx-sidecar.json"])["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for position in (panel["gridPos"] for panel in panels):
        columns, rows = (
            range(position["x"], position["x"] + position["w"]),
            range(position["y"], position["y"] + position["h"]),
        )
        place = {(column, row) for column in columns for row in rows}
        assert not place & taken
        taken |= place


def test_a_metric_that_the_table_does_not_have_cannot_be_asked_for() -> None:
    with pytest.raises(KeyError):
        value("no_such_thing")


# The expressions.


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *(alert.expression for alert in ALERTS)])
async def test_every_series_that_is_asked_for_is_there_after_some_requests(expression: str, told: Scraped) -> None:
    assert asked(expression)
    for series in asked(expression):
        assert list(told.samples(series)), series


def test_the_outcomes_of_the_alert_are_outcomes() -> None:
    assert set(BROKEN) <= OUTCOMES


def test_each_metric_that_panels_of_vllm_show_is_on_the_dashboard() -> None:
    shown = {series for expression in EXPRESSIONS for series in asked(expression)}
    usual = (
        "time_to_first_token_seconds",
        "inter_token_latency_seconds",
        "e2e_request_latency_seconds",
        "request_queue_time_seconds",
        "request_prefill_time_seconds",
        "num_requests_running",
        "num_requests_waiting",
        "prefix_cache_hits",
        "num_preemptions",
    )
    for name in usual:
        ours = {metric.series for metric in TABLE.values() if name in metric.vllm.split(", ")}
        assert ours & shown, name


# Prometheus' own word.


@needs_promtool
def test_prometheus_reads_the_metrics_without_a_complaint(told: Scraped) -> None:
    assert promtool("check", "metrics", text=told.text) == ""


@needs_promtool
def test_prometheus_reads_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m").replace("$model", ".*")}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(EXPRESSIONS)} rules found" in promtool("check", "rules", str(file))
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(ROOT / "dashboards" / "alerts.yml"))


# By alert: series as promtool writes them, of which each sample is a minute later than the last.
FIRING: dict[str, dict[str, str]] = {
    "MlxSidecarDown": {"mlx_sidecar_up": "0x30"},
    "MlxSidecarEngineNotReady": {'mlx_sidecar_engine_state{state="ready"}': "0x30"},
    "MlxSidecarEngineRestarts": {"mlx_sidecar_engine_restarts_total": "0+1x30"},
    "MlxSidecarRequestsBreak": {
        'mlx_sidecar_requests_total{operation="chat",outcome="stop"}': "0+9x30",
        'mlx_sidecar_requests_total{operation="chat",outcome="engine_lost"}': "0+1x30",
    },
    "MlxSidecarQueueFills": {"mlx_sidecar_queue_waiting": "900x30", "mlx_sidecar_queue_limit": "1000x30"},
    "MlxSidecarFirstTokenSlow": {
        'gen_ai_server_time_to_first_token_seconds_bucket{le="5.0"}': "0+1x30",
        'gen_ai_server_time_to_first_token_seconds_bucket{le="7.5"}': "0+9x30",
        'gen_ai_server_time_to_first_token_seconds_bucket{le="+Inf"}': "0+9x30",
    },
    "MlxSidecarShortOfMemory": {
        "mlx_sidecar_engine_refused_for_memory_total": "0+1x30",
        "mlx_sidecar_engine_allocation_failures_total": "0x30",
    },
    "MlxSidecarDiskCacheFailed": {'mlx_sidecar_cache_disk_state{state="failed"}': "1x30"},
    "MlxSidecarSpansLost": {'mlx_sidecar_spans_total{outcome="dropped"}': "0+5x30"},
}


@needs_promtool
def test_each_alert_fires_when_it_should_and_not_while_all_is_well(tmp_path: Path) -> None:
    assert FIRING.keys() == {alert.name for alert in ALERTS}
    well = {
        "mlx_sidecar_up": "1x30",
        'mlx_sidecar_engine_state{state="ready"}': "1x30",
        "mlx_sidecar_engine_restarts_total": "1x30",
        'mlx_sidecar_requests_total{operation="chat",outcome="stop"}': "0+9x30",
        'mlx_sidecar_requests_total{operation="chat",outcome="disconnected"}': "0+9x30",
        "mlx_sidecar_queue_waiting": "5x30",
        "mlx_sidecar_queue_limit": "1000x30",
        'gen_ai_server_time_to_first_token_seconds_bucket{le="5.0"}': "0+9x30",
        'gen_ai_server_time_to_first_token_seconds_bucket{le="+Inf"}': "0+9x30",
        "mlx_sidecar_engine_refused_for_memory_total": "3x30",
        "mlx_sidecar_engine_allocation_failures_total": "2x30",
        'mlx_sidecar_cache_disk_state{state="failed"}': "0x30",
        'mlx_sidecar_spans_total{outcome="dropped"}': "5x30",
        'mlx_sidecar_spans_total{outcome="sent"}': "0+5x30",
    }
    tests = [_test(series, {name}) for name, series in FIRING.items()] + [_test(well, set())]
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(ROOT / "dashboards" / "alerts.yml")], "tests": tests}))
    promtool("test", "rules", str(file))


def _test(series: dict[str, str], firing: set[str]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "30m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)],
            }
        ],
    }

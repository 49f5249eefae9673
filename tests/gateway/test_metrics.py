"""``/metrics``: each request is counted once, labels are bounded, and the sidecar's figures are its own."""

from __future__ import annotations

import random
import re
import signal
import string
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_gateway.core.keys import Key
from mlx_sidecar_gateway.core.records import Record
from mlx_sidecar_gateway.observability.document import BEGIN, END, replaced
from mlx_sidecar_gateway.observability.engine_figures import Figures, families
from mlx_sidecar_gateway.observability.labels import MOST_MODELS, OPERATIONS, OUTCOMES, Models
from mlx_sidecar_gateway.observability.names import TABLE
from mlx_sidecar_gateway.observability.sidecar_names import CACHE_COUNTERS, ENGINE_COUNTERS, ENGINE_HISTOGRAMS
from mlx_sidecar_gateway.surfaces.surface import GenerateRoute, Offer
from mlx_sidecar_gateway.surfaces.table import SURFACES
from tests.gateway.gateway_process import PATIENCE_S, GatewayProcess, gateway_process
from tests.gateway.in_memory import InMemory, gateway_over, in_memory
from tests.gateway.scrapes import Scraped, scrape

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[2] / "docs"
CHAT = "/v1/chat/completions"


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}


@pytest.fixture(scope="module")
async def sidecar(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory() as made:
        yield made


@pytest.fixture
def memory(sidecar: InMemory) -> InMemory:
    """A gateway that has counted nothing, and offers one model."""
    return gateway_over(sidecar.sidecar, models=(Offer("small", "fake?tokens=20"),))


# Requests.


@pytest.mark.parametrize("stream", [False, True])
async def test_a_generation_is_told_with_its_times_and_tokens(memory: InMemory, stream: bool) -> None:
    await memory.visit(CHAT, body("small", stream=stream, user="me")).run()
    told = await scrape(memory)
    names = {
        "surface": "openai",
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "mlx_sidecar",
        "gen_ai_request_model": "small",
    }
    assert told.total("gen_ai_server_request_duration_seconds_count", error_type="", **names) == 1
    assert told.total("gen_ai_server_time_to_first_token_seconds_count", **names) == 1
    assert told.total("gen_ai_server_time_per_output_token_seconds_count", **names) == 1
    assert told.total("gen_ai_client_token_usage_sum", gen_ai_token_type="output", **names) == 20
    prompt = told.total("mlx_sidecar_tokens_total", model="small", type="prompt")
    assert prompt == told.total("gen_ai_client_token_usage_sum", gen_ai_token_type="input", **names) > 0
    outcome = {"surface": "openai", "operation": "chat", "outcome": "stop", "key": ""}
    assert told.total("mlx_sidecar_requests_total", **outcome) == 1
    assert told.total("mlx_sidecar_requests_with_ignored_parameters_total") == 1


async def test_a_request_that_fails_has_an_error_type_and_no_first_token(memory: InMemory) -> None:
    await memory.visit(CHAT, body("small", n=2)).run()
    told = await scrape(memory)
    assert told.total("gen_ai_server_request_duration_seconds_count", error_type="unsupported_parameter") == 1
    assert not list(told.samples("gen_ai_server_time_to_first_token_seconds_count"))
    assert told.total("mlx_sidecar_requests_total", outcome="unsupported_parameter") == 1


async def test_a_scrape_counts_itself_when_it_has_ended(memory: InMemory) -> None:
    first, second = await scrape(memory), await scrape(memory)
    assert first.total("mlx_sidecar_requests_running") == 1
    assert first.total("mlx_sidecar_requests_total") == 0
    assert second.total("mlx_sidecar_requests_total", operation="other", outcome="answered") == 1


async def test_where_keys_are_asked_for_a_scrape_needs_one_and_requests_have_its_name(sidecar: InMemory) -> None:
    memory = gateway_over(sidecar.sidecar, keys={"s3cret": Key(name="ann")})
    visit = await memory.visit("/metrics", {}, method="GET").run()
    assert visit.status == 401
    key = ("authorization", "Bearer s3cret")
    await memory.visit(CHAT, body("fake?tokens=3"), headers=[key]).run()
    told = await scrape(memory, key)
    assert told.total("mlx_sidecar_requests_total", key="ann", outcome="stop") == 1
    assert told.total("mlx_sidecar_tokens_total", key="ann", type="completion") == 3
    assert "s3cret" not in told.text


# Labels.


async def test_a_thousand_names_of_models_that_are_not_offered_make_one_series(memory: InMemory) -> None:
    source = random.Random(5)
    for _ in range(1000):
        name = "".join(source.choices(string.printable, k=source.randint(1, 40)))
        await memory.visit(CHAT, body(name)).run()
    told = await scrape(memory)
    assert told.values("gen_ai_server_request_duration_seconds_count", "gen_ai_request_model") == {"other"}
    assert told.total("gen_ai_server_request_duration_seconds_count", gen_ai_request_model="other") == 1000


@given(st.lists(st.tuples(st.text(max_size=5), st.sampled_from(["stop", "model_not_found", "answered"])), max_size=200))
def test_without_a_list_of_models_those_that_succeeded_are_told_apart_up_to_a_bound(
    asked: list[tuple[str, str]],
) -> None:
    models, told = Models(()), set[str]()
    for name, outcome in asked:
        label = models.name_of(Record("id", "POST", "/", model=name, outcome=outcome))
        assert label in (name, "other")
        assert label == name or outcome == "model_not_found" or len(told) >= MOST_MODELS
        told.add(label)
    assert len(told - {"", "other"}) <= MOST_MODELS


def test_every_route_that_generates_has_an_operation() -> None:
    paths = {route.path for surface in SURFACES for route in surface.routes if isinstance(route, GenerateRoute)}
    assert paths <= OPERATIONS.keys()


def test_every_kind_of_error_in_the_documents_is_an_outcome() -> None:
    section = (DOCS / "gateway.md").read_text().partition("\n## Errors\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if re.match(r"\| \d{3}", line)]
    kinds = {kind for row in rows for kind in re.findall(r"`(\w+)`", row.partition("|")[2])}
    assert kinds
    assert kinds <= OUTCOMES


# The sidecar.


async def test_the_sidecars_figures_are_those_of_its_stats(memory: InMemory) -> None:
    await memory.visit(CHAT, body("small")).run()
    stats, told = await memory.sidecar.stats(), await scrape(memory)
    assert told.total("mlx_sidecar_up") == told.total("mlx_sidecar_ready") == 1
    assert told.total("mlx_sidecar_engine_state", state="ready") == told.total("mlx_sidecar_engine_state") == 1
    assert told.total("mlx_sidecar_queue_limit") == stats.queue.limit
    assert told.total("mlx_sidecar_memory_bytes", owner="weights") == stats.memory.models_bytes
    assert told.total("mlx_sidecar_engine_completion_tokens_total") == stats.counters["completion_tokens"]
    gaps = stats.histograms["gap_s"]
    assert told.total("mlx_sidecar_engine_gap_seconds_count") == sum(gaps.counts)
    assert told.total("mlx_sidecar_engine_gap_seconds_bucket", le="0.001") == gaps.counts[0]
    assert told.total("mlx_sidecar_engine_gap_seconds_bucket", le="+Inf") == sum(gaps.counts)


async def test_the_table_has_every_metric_that_is_told_with_its_type_and_labels(memory: InMemory) -> None:
    await memory.visit(CHAT, body("small", stream=True)).run()
    assert_in_table(await scrape(memory))


async def test_a_newer_sidecars_members_are_told_though_the_table_does_not_have_them(memory: InMemory) -> None:
    stats = await memory.sidecar.stats()
    newer = {"counters": {"turns": 3}, "gauges": {"wait_s": 0.5}, "histograms": {"turn_s": stats.histograms["gap_s"]}}
    told = {family.name: family for family in families(Figures(stats.model_copy(update=newer), cache=None))}
    assert [sample.value for sample in told["mlx_sidecar_engine_turns"].samples] == [3]
    assert [sample.value for sample in told["mlx_sidecar_engine_wait_seconds"].samples] == [0.5]
    assert told["mlx_sidecar_engine_turn_seconds"].type == "histogram"
    assert not [name for name in told if name.startswith("mlx_sidecar_cache_")]


async def test_the_table_has_every_figure_of_a_real_engine() -> None:
    with gateway_process("--model", "pocket") as gateway:
        while "mlx_sidecar_cache_lookups" not in (told := Scraped(get(gateway))).families:
            pass  # on a busy machine it may not answer in time
    assert_in_table(told)
    expected = len(ENGINE_COUNTERS) + len(ENGINE_HISTOGRAMS) + len(CACHE_COUNTERS)
    told_names = {name for name in told.families if name.startswith(("mlx_sidecar_engine_", "mlx_sidecar_cache_"))}
    assert len(told_names & TABLE.keys()) > expected


def assert_in_table(told: Scraped) -> None:
    assert told.families
    for name, family in told.families.items():
        metric = TABLE[name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(metric.labels)


def test_a_sidecar_that_hangs_leaves_the_scrape_answered_without_it() -> None:
    with gateway_process("--engine", "fake") as gateway:
        [front] = psutil.Process(gateway.process.pid).children()
        front.send_signal(signal.SIGSTOP)
        try:
            told = Scraped(get(gateway))
        finally:
            front.send_signal(signal.SIGCONT)
        assert told.total("mlx_sidecar_up") == 0
        assert "mlx_sidecar_queue_running" not in told.families
        while Scraped(get(gateway)).total("mlx_sidecar_up") == 0:
            pass


def get(gateway: GatewayProcess) -> str:
    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=PATIENCE_S) as response:
        text: str = response.read().decode()
    return text


# The document.


def test_the_document_has_the_table_as_it_is() -> None:
    document = (DOCS / "observability.md").read_text()
    assert replaced(document) == document


def test_a_document_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        replaced(f"{BEGIN}\n")
    with pytest.raises(ValueError, match="no place"):
        replaced(f"{END}\n{BEGIN}\n")

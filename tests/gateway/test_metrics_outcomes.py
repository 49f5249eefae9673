"""A thousand requests that end in every way: metrics count each of them once, as its record tells it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import anyio
import pytest

from mlx_sidecar_gateway.core.records import DISCONNECTED, Record
from mlx_sidecar_gateway.observability.labels import error_type_of, operation_of
from mlx_sidecar_gateway.surfaces.surface import Offer
from tests.gateway.in_memory import ARRIVAL, Arrival, InMemory, Visit, gateway_over, holding, in_memory
from tests.gateway.scrapes import Scraped, scrape
from tests.gateway.support import PATIENCE_S

pytestmark = pytest.mark.anyio

REQUESTS = 1000
DEATHS = 4
AT_ONCE = 25
MODELS = (Offer("small", "fake?tokens=8"), Offer("long", "fake?tokens=100000&delay_ms=5"))
HELLO = [{"role": "user", "content": "Hi"}]
SHAPES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", {"messages": HELLO}),
    ("/v1/completions", {"prompt": "Hi", "max_tokens": 9}),
    ("/v1/responses", {"input": "Hi", "store": False}),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 9}),
    ("/api/chat", {"messages": HELLO}),
    ("/api/generate", {"prompt": "Hi"}),
)

Request = Callable[[InMemory, random.Random], Coroutine[Any, Any, Visit]]


def asked(memory: InMemory, source: random.Random, **more: Any) -> Visit:
    path, body = source.choice(SHAPES)
    return memory.visit(path, {"model": "small", "stream": source.random() < 0.5, **body, **more})


async def answered(memory: InMemory, source: random.Random) -> Visit:
    return await asked(memory, source).run()


async def refused(memory: InMemory, source: random.Random) -> Visit:
    more: dict[str, Any] = source.choice([{"model": "none"}, {"temperature": "hot"}, {"nonsense": 1}])
    return await asked(memory, source, **more).run()


async def lost(memory: InMemory, source: random.Random) -> Visit:
    return await memory.visit("/v1/nothing", {}).run()


async def listed(memory: InMemory, source: random.Random) -> Visit:
    return await memory.visit(source.choice(["/v1/models", "/stats", "/api/tags"]), {}, method="GET").run()


async def left_at_once(memory: InMemory, source: random.Random) -> Visit:
    visit = asked(memory, source, model="long")
    visit.leaves.set()
    return await visit.run()


async def left_in_the_middle(memory: InMemory, source: random.Random) -> Visit:
    visit = asked(memory, source, model="long", stream=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit.run)
        await visit.has_heard.wait()
        visit.leaves.set()
    return visit


WAYS: tuple[tuple[Request, int], ...] = (
    (answered, 6),
    (refused, 3),
    (lost, 1),
    (listed, 1),
    (left_at_once, 1),
    (left_in_the_middle, 1),
)


async def died_under(memory: InMemory) -> None:
    """Answers that are at their third token when the engine dies, and go on."""
    with holding() as gate:
        arrivals = [Arrival(3) for _ in range(3)]
        held = f"fake?tokens=9&context={gate.context(3)}"
        body = {"model": "held", "messages": HELLO, "stream": True}
        memory.gateway.settings = replace(memory.gateway.settings, models=(*MODELS, Offer("held", held)))

        async def run(arrival: Arrival) -> None:
            ARRIVAL.set(arrival)
            visit = await memory.visit("/v1/chat/completions", body).run()
            assert visit.body.endswith(b"data: [DONE]\n\n")

        async with anyio.create_task_group() as tasks:
            for arrival in arrivals:
                tasks.start_soon(run, arrival)
            with anyio.fail_after(PATIENCE_S):
                for arrival in arrivals:
                    await arrival.there.wait()
            memory.sidecar.kill_engine()
            gate.is_open = True


async def all_of(memory: InMemory) -> None:
    """``REQUESTS`` requests, some at once, and deaths of the engine in between."""
    source = random.Random(7)
    ways = source.choices([way for way, _ in WAYS], [weight for _, weight in WAYS], k=REQUESTS)
    for first in range(0, REQUESTS, AT_ONCE):
        async with anyio.create_task_group() as tasks:
            for way in ways[first : first + AT_ONCE]:
                tasks.start_soon(way, memory, source)
        if first % (REQUESTS // DEATHS) == 0:
            await died_under(memory)


async def test_a_thousand_requests_that_end_in_every_way_are_counted_as_their_records_tell_them() -> None:
    records: list[Record] = []
    async with in_memory() as sidecar:
        memory = gateway_over(sidecar.sidecar, models=MODELS)
        memory.gateway.records.listeners.append(records.append)
        await all_of(memory)
        memory.gateway.records.listeners.remove(records.append)
        told = await scrape(memory)
        restarts = told.total("mlx_sidecar_engine_restarts_total")
    assert len(records) == len({record.id for record in records}) == REQUESTS + 3 * DEATHS
    assert restarts == DEATHS
    assert not memory.gateway.records.running
    assert of_metrics(told) == of_records(records)
    assert told.total("mlx_sidecar_requests_total") == len(records)
    for outcome, count in Counter(record.outcome for record in records).items():
        assert told.total("mlx_sidecar_requests_total", outcome=outcome) == count
    ended = [record for record in records if record.usage is not None]
    assert told.total("gen_ai_client_token_usage_count", gen_ai_token_type="output") == len(ended)
    assert told.total("mlx_sidecar_tokens_total", type="completion") == sum(record.tokens for record in records)
    assert {DISCONNECTED, "stop", "not_served", "answered"} <= {record.outcome for record in records}


def of_records(records: list[Record]) -> Counter[tuple[str, str]]:
    return Counter((operation_of(record), error_type_of(record)) for record in records)


def of_metrics(told: Scraped) -> Counter[tuple[str, str]]:
    made: Counter[tuple[str, str]] = Counter()
    for sample in told.samples("gen_ai_server_request_duration_seconds_count"):
        made[sample.labels["gen_ai_operation_name"], sample.labels["error_type"]] += int(sample.value)
    return made

"""Each request has one record, whatever became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from mlx_sidecar_gateway.core.records import ANSWERED, DISCONNECTED, Record
from tests.gateway.in_memory import ARRIVAL, Arrival, InMemory, holding, in_memory

pytestmark = pytest.mark.anyio

BODY = {"model": "fake?tokens=20", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
async def memory(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory() as made:
        yield made


async def record_of(memory: InMemory, path: str, body: Any, **options: Any) -> tuple[Record, Any]:
    records: list[Record] = []
    memory.gateway.records.listeners[:] = [records.append]
    visit = await memory.visit(path, body, **options).run()
    [record] = records
    assert record.id == visit.headers["x-request-id"]
    assert record.status == visit.status
    assert record.sent_bytes == len(visit.body)
    assert not memory.gateway.records.running
    return record, visit


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_told_with_its_tokens_and_times(memory: InMemory, stream: bool) -> None:
    headers = [("user-agent", "curl/8"), ("x-stainless-retry-count", "2"), ("x-mlx-sidecar-priority", "high")]
    body = {**BODY, "stream": stream, "user": "me"}
    record, _ = await record_of(memory, "/v1/chat/completions", body, headers=headers)
    assert (record.surface, record.route, record.model) == ("openai", "/chat/completions", BODY["model"])
    assert (record.client, record.retry, record.priority, record.ignored) == ("curl/8", 2, "high", ("user",))
    assert (record.generates, record.is_streamed, record.outcome, record.tokens) == (True, stream, "stop", 20)
    assert record.usage is not None
    assert record.usage.completion_tokens == 20
    assert record.timing is not None
    assert record.first_token_s is not None
    assert record.duration_s is not None
    assert record.first_token_s <= record.duration_s


async def test_a_refused_request_is_told_with_the_reason(memory: InMemory) -> None:
    record, _ = await record_of(memory, "/v1/chat/completions", {**BODY, "n": 2})
    assert (record.status, record.outcome, record.generates) == (400, "unsupported_parameter", False)
    assert "n" in record.message


async def test_a_path_that_is_not_there_has_no_route(memory: InMemory) -> None:
    record, _ = await record_of(memory, "/v1/nothing", {})
    assert (record.path, record.route, record.outcome, record.status) == ("/v1/nothing", "", "not_served", 404)


async def test_a_list_is_answered(memory: InMemory) -> None:
    record, _ = await record_of(memory, "/v1/messages/count_tokens", BODY)
    assert (record.outcome, record.surface, record.generates) == (ANSWERED, "anthropic", False)


async def test_what_takes_no_body_names_no_model(memory: InMemory) -> None:
    records: list[Record] = []
    memory.gateway.records.listeners[:] = [records.append]
    await memory.visit("/stats", None, method="GET").run()
    assert [(record.model, record.route, record.outcome) for record in records] == [("", "/stats", ANSWERED)]


async def test_a_client_that_left_is_told_with_the_tokens_that_had_come(memory: InMemory) -> None:
    records: list[Record] = []
    memory.gateway.records.listeners[:] = [records.append]
    with holding() as gate:
        arrival = Arrival(7)
        model = f"fake?tokens=20&context={gate.context(7)}"
        visit = memory.visit("/v1/chat/completions", {**BODY, "model": model, "stream": True})

        async def ask() -> None:
            ARRIVAL.set(arrival)
            await visit.run()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await arrival.there.wait()
            [running] = memory.gateway.records.running.values()
            assert (running.outcome, running.first_token_s is None) == ("", False)
            visit.leaves.set()
    [record] = records
    assert (record.outcome, record.tokens, record.status, record.usage) == (DISCONNECTED, 7, 200, None)


async def test_a_listener_that_fails_changes_neither_the_answer_nor_the_others(
    memory: InMemory, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Record) -> None:
        raise ValueError

    records: list[Record] = []
    memory.gateway.records.listeners[:] = [fail, records.append]
    visit = await memory.visit("/v1/chat/completions", BODY).run()
    assert visit.status == 200
    assert len(records) == 1
    assert "a listener failed" in caplog.text

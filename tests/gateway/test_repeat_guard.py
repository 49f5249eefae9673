"""A gateway ends loops where it is told to, in the words of each surface, and its records tell the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from mlx_sidecar_gateway.core.records import Record
from tests.gateway.endings import Spoken, streaming_routes
from tests.gateway.in_memory import InMemory, Visit, in_memory

pytestmark = pytest.mark.anyio

GUARD = 33
LOOP = f"fake?text={quote('and so on, ' * 40)}"
FIRST = ("and so on, " * 3)[:GUARD]
CUT = {"length", "max_tokens", "max_output_tokens", "incomplete"}


@pytest.fixture(scope="module")
async def memory(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory(repeat_guard=GUARD) as made:
        yield made


async def ask(memory: InMemory, path: str, body: Any) -> tuple[Visit, Record]:
    records: list[Record] = []
    memory.gateway.records.listeners[:] = [records.append]
    visit = await memory.visit(path, body).run()
    [record] = records
    return visit, record


@pytest.mark.parametrize("spoken", streaming_routes(), ids=lambda spoken: spoken.path)
async def test_a_loop_is_told_as_a_bound_and_recorded_as_what_it_is(memory: InMemory, spoken: Spoken) -> None:
    visit, record = await ask(memory, spoken.path, {**spoken.body(LOOP)})
    ended = spoken.ended(visit.status, visit.body)
    assert (ended.text, ended.error) == (FIRST, None)
    assert ended.reason in CUT
    assert (record.outcome, record.tokens) == ("repeated", GUARD)
    assert memory.gateway.outcomes["repeated"]


async def test_a_request_has_its_own_guard(memory: InMemory) -> None:
    body = {"model": LOOP, "messages": [{"role": "user", "content": "x"}]}
    _, record = await ask(memory, "/v1/chat/completions", {**body, "repeat_guard": 60})
    assert (record.outcome, record.tokens) == ("repeated", 60)
    visit, record = await ask(memory, "/v1/chat/completions", {**body, "repeat_guard": 1})
    assert (visit.status, record.outcome) == (400, "invalid_params")
    assert "repeat_guard" in record.message

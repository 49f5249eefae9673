"""Readers that stall hold their own requests back: the engine works for the others alone, and nothing piles up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from tests.gateway.endings import Spoken, streaming_routes
from tests.gateway.in_memory import InMemory, in_memory

pytestmark = pytest.mark.anyio

ROUTES = streaming_routes()
WINDOW = 8
STALLED = 2  # of each route
LENGTH = 3_000
LONG = f"fake?tokens={LENGTH}&context=20000&delay_ms=0.1"
OTHER = 200
each_route = pytest.mark.parametrize("spoken", ROUTES, ids=lambda spoken: spoken.path)


@pytest.fixture(scope="module")
async def memory(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory(window=WINDOW) as made:
        yield made


async def decoded(memory: InMemory) -> int:
    return (await memory.sidecar.stats()).counters["completion_tokens"]


async def until_others_alone_are_decoded(memory: InMemory) -> None:
    """Return when the engine decodes as many tokens as an answer has that somebody reads, and not one more."""
    meanwhile = 0
    while meanwhile != OTHER:
        before = await decoded(memory)
        await memory.sidecar.generate(f"fake?tokens={OTHER}", prompt="x")
        meanwhile = await decoded(memory) - before


def limited(spoken: Spoken) -> dict[str, Any]:
    """The request for a long answer."""
    limits: dict[str, dict[str, Any]] = {
        "/completions": {"max_tokens": LENGTH + 1},
        "/messages": {"max_tokens": LENGTH + 1},
    }
    return spoken.body(LONG) | limits.get(spoken.path, {})


async def test_stalled_readers_hold_the_engine_back_until_they_read_again(memory: InMemory) -> None:
    visits = [memory.visit(spoken.path, limited(spoken)) for spoken in ROUTES for _ in range(STALLED)]
    async with anyio.create_task_group() as tasks:
        for visit in visits:
            tasks.start_soon(visit.run)
            await visit.has_heard.wait()
            visit.reads = anyio.Event()
        await until_others_alone_are_decoded(memory)
        lengths = [len(visit.body) for visit in visits]
        await until_others_alone_are_decoded(memory)
        assert [len(visit.body) for visit in visits] == lengths
        assert len(memory.gateway.answers) == len(visits)
        # One of each route reads on, to its end; the others leave.
        for number, visit in enumerate(visits):
            (visit.leaves if number % STALLED else visit.reads).set()
    for spoken, visit in zip(ROUTES, visits[::STALLED], strict=True):
        ended = spoken.ended(visit.status, visit.body)
        assert ended.error is None
        assert len(ended.text) == LENGTH
    await memory.sidecar_is_idle()


@each_route
async def test_an_error_waits_for_a_reader_that_stalls(memory: InMemory, spoken: Spoken) -> None:
    headers = [("x-mlx-sidecar-deadline-s", "0.3")]
    visit = memory.visit(spoken.path, limited(spoken), headers=headers)
    visit.reads = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit.run)
        await until_begun(memory)
        await memory.sidecar_is_idle()  # the deadline has passed, and the engine is free
        await until_others_alone_are_decoded(memory)
        visit.reads.set()
    assert spoken.ended(visit.status, visit.body).error in ("deadline_passed", "response.failed")


async def until_begun(memory: InMemory) -> None:
    while not memory.gateway.answers:
        await memory.sidecar.ping()


async def test_an_error_does_not_wait_for_a_stalled_reader_when_the_gateway_ends(memory: InMemory) -> None:
    visits = [memory.visit(spoken.path, limited(spoken)) for spoken in ROUTES]
    async with anyio.create_task_group() as tasks:
        for visit in visits:
            tasks.start_soon(visit.run)
            await visit.has_heard.wait()
            visit.reads = anyio.Event()
        memory.gateway.stop_answers()
        await memory.gateway.idle()
        await memory.sidecar_is_idle()
    assert not any(visit.is_complete for visit in visits)

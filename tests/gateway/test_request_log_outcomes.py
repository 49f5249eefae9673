"""A thousand requests that end in every way: each has exactly one line, under the id of its answer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from mlx_sidecar_gateway.observability.request_log import LogSettings, RequestLog
from tests.gateway.in_memory import InMemory, Visit, in_memory
from tests.gateway.support import HELLO

REQUESTS, AT_ONCE, KILLS = 1000, 16, 3
LONG = "fake?tokens=5000&context=9000&delay_ms=5"
SHORT = "fake?tokens=5"


class Crowd:
    """Clients that ask for what chance gives them."""

    def __init__(self, memory: InMemory, chance: Random) -> None:
        self._memory = memory
        self._chance = chance
        self.visits: list[Visit] = []

    async def one(self) -> None:
        """One request, from its beginning to its end."""
        ways = (self._answered, self._refused, self._left_at_once, self._left_later)
        await self._chance.choices(ways, (60, 20, 10, 10))[0]()

    def _visit(self, body: dict[str, Any]) -> Visit:
        path = self._chance.choice(("/v1/chat/completions", "/v1/messages", "/api/chat"))
        visit = self._memory.visit(path, {"messages": HELLO, "max_tokens": 9000, **body})
        self.visits.append(visit)
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


@pytest.mark.anyio
async def test_each_of_a_thousand_requests_has_one_line_with_its_id(tmp_path: Path) -> None:
    log = RequestLog(LogSettings(file=tmp_path / "log", limit_bytes=100_000, older=100))
    async with in_memory() as memory:
        log.attach(memory.gateway.records)
        crowd, places, begun = Crowd(memory, Random(1)), anyio.CapacityLimiter(AT_ONCE), 0

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
        restarts = (await memory.sidecar.stats()).engine.restarts
    log.close()
    lines = [json.loads(line) for part in tmp_path.iterdir() for line in part.read_text().splitlines()]
    assert len(lines) == len({line["id"] for line in lines}) == REQUESTS
    statuses = {visit.headers["x-request-id"]: visit.status for visit in crowd.visits if visit.status}
    assert {line["id"]: line["status"] for line in lines if line["status"]} == statuses
    assert restarts
    outcomes = Counter(line["outcome"] for line in lines)
    assert {"stop", "disconnected", "invalid_params", "model_not_found"} <= outcomes.keys()
    assert all(line.get("failed", False) == (line["status"] >= 400) for line in lines)

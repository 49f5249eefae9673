"""Clients that leave at random moments: in the queue, in prefill, while text comes, before a whole answer.

Nothing of them may be left, in the gateway or its sidecar, and no memory. The engine is free as soon as its present
operation has ended, on the fake engine at once; on the embedded model its longest operation is told beside it, and how
much of the prompts that were left the next requests found in the cache.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import Any

from tests.gateway.endings import Spoken, streaming_routes

from ..faults.report import Report
from ..measure import Row
from .fault_clients import request_of
from .fault_host import Host, host

ENDLESS = "fake?tokens=1000000&context=2000000&delay_ms=5"
PREFILL = "fake?prefill_ms=600000"
AT_ONCE = 40  # of which the engine runs 32 of each model
MEMORY_BYTES = 5 * 2**20
FREE_S = 0.1
ROUTES = streaming_routes()
CHAT = next(spoken for spoken in ROUTES if spoken.path == "/chat/completions")


def run(seed: int, quick: bool) -> Report:
    """200 disconnects, and 20 one by one on either engine."""
    count = 40 if quick else 200
    chance = random.Random(seed)
    with host() as gateway:
        asyncio.run(_crowd(gateway.port, chance, count))  # what is made once is made here
        gateway.until_idle()
        before = gateway.resident_bytes()
        asyncio.run(_crowd(gateway.port, chance, count))
        gateway.until_idle()
        after = gateway.resident_bytes()
        left = gateway.ask()
        freed = [_freed_s(gateway, ENDLESS, {}) for _ in range(5 if quick else 20)]
    rows, broken = _of_crowd(count, before, after, left)
    rows.append(_free_row("fake engine", freed, FREE_S))
    if max(freed) > FREE_S:
        broken.append(f"the fake engine was free after {max(freed):.3f} s")
    more, worse = _real(3 if quick else 20)
    return Report([*rows, *more], [*broken, *worse])


def _of_crowd(
    count: int, before: dict[str, int], after: dict[str, int], left: dict[str, Any]
) -> tuple[list[Row], list[str]]:
    rows = [Row("disconnects at random", f"{count:,}", "200")]
    broken = []
    for name in ("answers", "running", "waiting"):
        rows.append(Row(f"requests left: {name}", str(left[name]), "0"))
        if left[name]:
            broken.append(f"{left[name]} left: {name}")
    for name, bytes_ in after.items():
        grown = bytes_ - before[name]
        rows.append(Row(f"memory: {name}", f"{before[name] / 2**20:.1f} MiB, {grown / 2**20:+.1f}", "±5 MiB"))
        if abs(grown) > MEMORY_BYTES:
            broken.append(f"{name} grew by {grown:,} bytes")
    return rows, broken


def _free_row(engine: str, freed: list[float], asked_s: float) -> Row:
    figure = f"median {1000 * statistics.median(freed):.0f} ms, worst {1000 * max(freed):.0f} ms"
    return Row(f"{engine}: from a client's end until nothing runs", figure, f"{1000 * asked_s:.0f} ms")


async def _crowd(port: int, chance: random.Random, count: int) -> None:
    limit = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(_leaver(port, limit, chance.choice(ROUTES), random.Random(chance.random())))


async def _leaver(port: int, limit: asyncio.Semaphore, spoken: Spoken, chance: random.Random) -> None:
    async with limit:
        body = spoken.body(chance.choice([ENDLESS, PREFILL])) | {"stream": chance.random() < 0.7}
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_of(port, spoken.path, body))
        await writer.drain()
        try:
            async with asyncio.timeout(chance.random()):
                while await reader.read(1 << 12):
                    pass
        except TimeoutError:
            pass
        finally:
            writer.close()


def _freed_s(gateway: Host, model: str, more: dict[str, Any]) -> float:
    """Seconds from a client's end, in the middle of its request, until the sidecar works on nothing."""
    return asyncio.run(_left(gateway, CHAT.body(model) | more))


async def _left(gateway: Host, body: dict[str, Any]) -> float:
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    before = gateway.counters()
    writer.write(request_of(gateway.port, CHAT.path, body))
    await writer.drain()
    while True:
        counters = gateway.counters()
        if any(counters[name] > before[name] for name in ("prefill_tokens", "completion_tokens")):
            break
    writer.close()
    await writer.wait_closed()
    left_s = time.monotonic()
    while gateway.ask()["running"]:
        pass
    return time.monotonic() - left_s


def _real(count: int) -> tuple[list[Row], list[str]]:
    """The same on the embedded model, each time in the middle of a prompt of its own."""
    words = "the sea and the trees that stand beside it " * 350
    freed, found = [], []
    with host("--engine", "mlx") as gateway:
        for number in range(count):
            body = CHAT.body("pocket") | {
                "messages": [{"role": "user", "content": f"{number} {words}"}],
                "max_tokens": 1,
            }
            began = gateway.counters()
            freed.append(_freed_s(gateway, "pocket", {key: body[key] for key in ("messages", "max_tokens")}))
            computed = gateway.counters()["prefill_tokens"] - began["prefill_tokens"]
            asyncio.run(_whole(gateway.port, body))
            found.append((gateway.counters()["cached_tokens"] - began["cached_tokens"], computed))
        asked_s = gateway.ask()["longest_prefill_step_s"] + FREE_S
    shares = [cached / max(1, computed) for cached, computed in found]
    rows = [_free_row("embedded model", freed, asked_s)]
    rows.append(Row("of what was prefilled, found by the next request", f"{min(shares):.0%} at least", ""))
    broken = [f"nothing was found of {computed} tokens" for cached, computed in found if not cached]
    if max(freed) > asked_s:
        broken.append(f"the embedded model was free after {max(freed):.3f} s")
    return rows, broken


async def _whole(port: int, body: dict[str, Any]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_of(port, CHAT.path, body))
    await reader.read()
    writer.close()

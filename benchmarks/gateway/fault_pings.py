"""The longest silence of a stream: through a minute of prefill, and when the engine is killed in the middle of one.

The interval of pings is a second. One stream on every route that streams, all at once.
"""

from __future__ import annotations

import asyncio

from tests.gateway.endings import streaming_routes

from ..faults.report import Report
from ..measure import Row
from .fault_clients import Client
from .fault_host import Host, host

MOST_S = 1.5


def run(_seed: int, quick: bool) -> Report:
    """A minute, and a third of one; with ``quick`` a twelfth of that."""
    minute_s = 5.0 if quick else 60.0
    with host() as gateway:
        prefill = asyncio.run(_silent(gateway, minute_s, None))
        restart = asyncio.run(_silent(gateway, minute_s / 3, minute_s / 6))
    rows, broken = [], []
    for what, clients in (("prefill", prefill), ("prefill, its engine killed half way", restart)):
        for client in clients:
            asked = f"{MOST_S} s"
            silence_s = client.longest_silence_s
            lasted_s = client.came_s[-1] - client.began_s
            rows.append(Row(f"{client.spoken.path}: {what}, {lasted_s:.0f} s", f"{silence_s:.2f} s at most", asked))
            if silence_s > MOST_S or client.ended is None or client.ended.error:
                broken.append(f"{rows[-1].what}: {silence_s:.2f} s, {client.ended or client.fault}")
    return Report(rows, broken)


async def _silent(gateway: Host, prefill_s: float, kill_after_s: float | None) -> list[Client]:
    clients = [
        Client(gateway.port, spoken, spoken.model(prefill_ms=round(1000 * prefill_s))) for spoken in streaming_routes()
    ]
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.run())
        if kill_after_s is not None:
            await asyncio.sleep(kill_after_s)
            (await asyncio.to_thread(gateway.engine)).kill()
    return clients

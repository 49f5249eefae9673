"""Clients that stop reading: 64 of them, whose answers would be tens of megabytes.

The memory of the gateway's and the sidecar's processes is compared with that before; the time to the first token of
other requests with that of the same requests without them. Both are asked for in turns, round by round.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from contextlib import ExitStack

from tests.gateway.endings import streaming_routes

from ..faults.report import Report
from ..measure import Row
from .fault_clients import Client, request_of
from .fault_host import Host, host

STALLED = 64
LONG = "fake?tokens=400000&context=500000"
OTHER = "fake?tokens=8&delay_ms=1"
GROWTH_BYTES = 32 * 2**20
SLOWER = 1.2
SETTLED_S = 3.0
CHAT = next(spoken for spoken in streaming_routes() if spoken.path == "/chat/completions")


def run(_seed: int, quick: bool) -> Report:
    """Three rounds of 40 requests, or one of ten."""
    rounds, requests = (1, 10) if quick else (3, 40)
    with host() as gateway:
        asyncio.run(_first_tokens_s(gateway.port, requests))
        ratios, growths = [], []
        for _ in range(rounds):
            alone_s = asyncio.run(_first_tokens_s(gateway.port, requests))
            before = gateway.resident_bytes()
            with ExitStack() as stack:
                for _ in range(STALLED):
                    stack.enter_context(_stalled(gateway.port))
                _settle(gateway)
                growths.append(sum(gateway.resident_bytes().values()) - sum(before.values()))
                beside_s = asyncio.run(_first_tokens_s(gateway.port, requests))
            ratios.append(statistics.median(beside_s) / statistics.median(alone_s))
            gateway.until_idle()
    slower, grown = statistics.median(ratios), max(growths)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    rows = [
        Row(f"{STALLED} clients stop reading: gateway, front and engine", f"{grown / 2**20:+.1f} MiB", "+32 MiB"),
        Row("the first token of others", f"{slower:.2f}× ({spread}) of that without them", f"{SLOWER}×"),
    ]
    broken = [f"memory grew by {grown:,} bytes"] if grown > GROWTH_BYTES else []
    return Report(rows, [*broken, *([f"first tokens were {slower:.2f} times as late"] if slower > SLOWER else [])])


def _stalled(port: int) -> socket.socket:
    """A client that asks for a long answer and reads none of it."""
    client = socket.socket()
    # Else the kernel would take megabytes for each client, and be full after minutes.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    client.connect(("127.0.0.1", port))
    client.sendall(request_of(port, CHAT.path, CHAT.body(LONG)))
    return client


def _settle(gateway: Host) -> None:
    """Return when the engine has decoded nothing for some seconds: all sockets and windows are full."""
    decoded, since_s = -1, time.monotonic()
    while time.monotonic() - since_s < SETTLED_S:
        now = gateway.counters()["completion_tokens"]
        if now != decoded:
            decoded, since_s = now, time.monotonic()
        time.sleep(0.05)


async def _first_tokens_s(port: int, count: int) -> list[float]:
    """Seconds to the first token of requests that come one after the other."""
    waits = []
    for _ in range(count):
        client = Client(port, CHAT, OTHER, after=2)  # the first event has the role alone
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.run())
            await client.reached.wait()
            waits.append(time.monotonic() - client.began_s)
    return waits

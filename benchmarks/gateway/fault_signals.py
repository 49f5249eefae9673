"""Signals to a gateway with 32 streams: SIGTERM, a second one, and SIGKILL."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from itertools import cycle, islice

import psutil

from tests.gateway.endings import streaming_routes
from tests.gateway.gateway_process import GatewayProcess, gateway_process

from ..faults.mortal import alive
from ..faults.report import Outcome, Report
from .fault_clients import Client

STREAMS = 32
ENDLESS = "fake?tokens=1000000&context=2000000&delay_ms=20"
Strike = Callable[[], float]

UNREADY_S, ERRORS_S, GONE_S = 0.1, 1.0, 1.0
SPOKEN = list(islice(cycle(streaming_routes()), STREAMS))


def run(_seed: int, quick: bool) -> Report:
    """Each signal five times, or once."""
    reports = [each() for _ in range(1 if quick else 5) for each in (_drained, _told_twice, _killed)]
    return Report(
        [row for report in reports for row in report.rows],
        [line for report in reports for line in report.broken],
        tuple(outcome for report in reports for outcome in report.outcomes),
    )


def _drained() -> Report:
    """SIGTERM: unready at once, all streams end, status 0."""
    with gateway_process("--engine", "fake", "--drain-delay-s", "1") as gateway:
        clients = [Client(_port(gateway), spoken, spoken.model(delay_ms=30), after=1) for spoken in SPOKEN]
        unready_s = asyncio.run(_until_streaming(clients, lambda: _until_unready_s(gateway)))
        status = gateway.process.wait(60)
    whole = sum(client.ended is not None and client.ended.error is None for client in clients)
    broken = [f"SIGTERM: {STREAMS - whole} streams did not end whole"] if whole < STREAMS else []
    broken += [f"SIGTERM: exit status {status}"] if status else []
    broken += [f"SIGTERM: unready after {unready_s:.2f} s"] if unready_s > UNREADY_S else []
    outcome = Outcome("SIGTERM", 1, STREAMS, whole, STREAMS, None, f"unready after {1000 * unready_s:.0f} ms")
    return Report([], broken, (outcome,))


def _told_twice() -> Report:
    """A second SIGTERM: every stream ends with an error."""
    with gateway_process("--engine", "fake", "--drain-timeout-s", "600") as gateway:
        clients = [Client(_port(gateway), spoken, ENDLESS, after=1, more=_limit(spoken.path)) for spoken in SPOKEN]

        def twice() -> float:
            gateway.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            gateway.process.send_signal(signal.SIGTERM)
            return time.monotonic()

        told_s = asyncio.run(_until_streaming(clients, twice))
        last_s = max(client.came_s[-1] for client in clients) - told_s
        status = gateway.process.wait(60)
        gone_s = time.monotonic() - told_s
    errors = sum(client.ended is not None and client.ended.error is not None for client in clients)
    words = f"last error after {last_s:.2f} s, process gone after {gone_s:.2f} s"
    broken = [f"a second SIGTERM: {STREAMS - errors} streams without an error"] if errors < STREAMS else []
    broken += [f"a second SIGTERM: {words}"] if last_s > ERRORS_S else []
    broken += [f"a second SIGTERM: exit status {status}"] if status else []
    return Report([], broken, (Outcome("a second SIGTERM", 1, STREAMS, errors, STREAMS, None, words),))


def _killed() -> Report:
    """SIGKILL: sidecar and engine go too, and no stream looks whole."""
    with gateway_process("--engine", "fake") as gateway:
        children = psutil.Process(gateway.process.pid).children(recursive=True)
        clients = [Client(_port(gateway), spoken, ENDLESS, after=1, more=_limit(spoken.path)) for spoken in SPOKEN]

        def kill() -> float:
            gateway.process.kill()
            killed_s = time.monotonic()
            while any(alive(child) for child in children):
                pass
            return time.monotonic() - killed_s

        gone_s = asyncio.run(_until_streaming(clients, kill))
    cut = sum(client.ended is None for client in clients)
    words = f"{len(children)} processes gone after {gone_s:.2f} s; all streams cut in the middle"
    broken = [f"SIGKILL: {STREAMS - cut} streams looked whole"] if cut < STREAMS else []
    broken += [f"SIGKILL: processes gone after {gone_s:.2f} s"] if gone_s > GONE_S else []
    return Report([], broken, (Outcome("SIGKILL", 1, STREAMS, cut, STREAMS, None, words),))


async def _until_streaming(clients: list[Client], strike: Strike) -> float:
    """Run the clients to their ends, and return what ``strike`` returned, which comes once all of them stream."""
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.run())
        for client in clients:
            await client.reached.wait()
        return await asyncio.to_thread(strike)


def _until_unready_s(gateway: GatewayProcess) -> float:
    gateway.process.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    while gateway.get("/health/ready")[0] == 200:
        pass
    return time.monotonic() - began_s


def _limit(path: str) -> dict[str, int]:
    return {"max_tokens": 10**6} if path in ("/messages", "/completions") else {}


def _port(gateway: GatewayProcess) -> int:
    return int(gateway.url.rpartition(":")[2])

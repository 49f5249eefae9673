"""Faults at every event boundary, over real processes and sockets.

A stream of 20 events on every route that streams, a token every 30 ms. A fault strikes once every client has as many
events as the boundary says: SIGKILL of the engine, of the sidecar, SIGTERM of the gateway without time to drain; or the
script of the fake engine has it there: a poison request, a lack of memory. Deadlines pass at as many different moments.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain

from tests.gateway.endings import ANSWERS, Ended, Spoken, streaming_routes
from tests.gateway.gateway_process import gateway_process

from ..faults.report import Outcome, Report
from .fault_clients import Client
from .fault_host import Host, host

ROUTES = streaming_routes()
EVENTS = 20
DELAY_MS = 30
SURVIVED = "survived"

Strike = Callable[[], object]


def run(_seed: int, quick: bool) -> Report:
    """All faults at all boundaries, or at each fifth."""
    boundaries = range(0, EVENTS + 1, 5 if quick else 1)
    with host() as gateway:
        whole = _undisturbed(gateway)
        judged = [
            _judged("SIGKILL of the engine", SURVIVED, _killed(gateway, whole, boundaries), whole),
            _judged("a poison request", "poison_request", _poison(gateway, boundaries), whole),
            _judged("a deadline", "deadline_passed", _late(gateway, boundaries), whole),
            _judged("no memory for two", SURVIVED, _crowded(gateway, boundaries), whole),
        ]
    judged.append(_judged("SIGTERM of the gateway", "shutting_down", _ended(whole, boundaries), whole))
    judged.append(_judged("SIGKILL of the sidecar", "engine_lost", _lost(whole, boundaries), whole))
    broken = [line for _, lines in judged for line in lines]
    return Report([], broken, tuple(outcome for outcome, _ in judged))


# The faults: each gives its streams, which have ended.


def _undisturbed(gateway: Host) -> dict[str, Client]:
    clients = [Client(gateway.port, spoken, spoken.model(delay_ms=DELAY_MS)) for spoken in ROUTES]
    _run(clients)
    return {client.spoken.path: client for client in clients}


def _killed(gateway: Host, whole: dict[str, Client], boundaries: Iterable[int]) -> list[Client]:
    return [
        client
        for after in boundaries
        for client in _run(_steady(gateway.port, whole, after), strike=lambda: gateway.engine().kill())
    ]


def _poison(gateway: Host, boundaries: Iterable[int]) -> list[Client]:
    clients = []
    for after in boundaries:
        for spoken in ROUTES:
            tokens = len(ANSWERS[spoken.answer]) * min(after, EVENTS - 1) // EVENTS
            # One by one, because several would be searched for together.
            clients += _run([Client(gateway.port, spoken, spoken.model(delay_ms=DELAY_MS, poison_after=tokens), after)])
    return clients


def _late(gateway: Host, boundaries: Iterable[int]) -> list[Client]:
    def client(spoken: Spoken, after: int) -> Client:
        whole_s = len(ANSWERS[spoken.answer]) * DELAY_MS / 1000
        late = {"x-mlx-sidecar-deadline-s": f"{whole_s * (after + 0.5) / (EVENTS + 1):.3f}"}
        # Each boundary has a model of its own, as only so many streams of one run at once.
        return Client(gateway.port, spoken, spoken.model(delay_ms=DELAY_MS, context=1000 + after), after, late)

    return _run([client(spoken, after) for after in boundaries for spoken in ROUTES])


def _crowded(gateway: Host, boundaries: Iterable[int]) -> list[Client]:
    return _run(
        list(chain.from_iterable(_pair(gateway.port, spoken, after) for after in boundaries for spoken in ROUTES))
    )


def _pair(port: int, spoken: Spoken, after: int) -> list[Client]:
    """A stream, and another that takes its memory when it has so many events."""
    model = spoken.model(delay_ms=DELAY_MS, memory_rows=1, context=2000 + after)
    first = Client(port, spoken, model, min(after, EVENTS - 5))
    return [first, _Second(port, spoken, model, first=first)]


class _Second(Client):
    """A client that comes when another has got so far."""

    def __init__(self, port: int, spoken: Spoken, model: str, *, first: Client) -> None:
        super().__init__(port, spoken, model)
        self._first = first

    async def run(self) -> None:
        await self._first.reached.wait()
        await super().run()


def _ended(whole: dict[str, Client], boundaries: Iterable[int]) -> list[Client]:
    clients = []
    for after in boundaries:
        with gateway_process("--engine", "fake", "--drain-timeout-s", "0") as gateway:
            port = int(gateway.url.rpartition(":")[2])
            clients += _run(_steady(port, whole, after), strike=partial(gateway.process.send_signal, signal.SIGTERM))
            assert gateway.process.wait(60) == 0
    return clients


def _lost(whole: dict[str, Client], boundaries: Iterable[int]) -> list[Client]:
    clients = []
    for after in boundaries:
        with host() as gateway:
            clients += _run(_steady(gateway.port, whole, after), strike=gateway.sidecar.kill)
    return clients


def _steady(port: int, whole: dict[str, Client], after: int) -> list[Client]:
    """A stream of each route; the events of surfaces that tell less are fewer."""
    return [
        Client(port, spoken, spoken.model(delay_ms=DELAY_MS), max(1, after * (whole[spoken.path].events - 2) // EVENTS))
        for spoken in ROUTES
    ]


def _run(clients: list[Client], strike: Strike | None = None) -> list[Client]:
    """Run the clients to their ends; ``strike`` when each has got as far as it says."""

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.run())
            if strike is not None:
                for client in clients:
                    await client.reached.wait()
                strike()

    asyncio.run(all_of_them())
    return clients


# The judgement.


def _judged(fault: str, expected: str, clients: list[Client], whole: dict[str, Client]) -> tuple[Outcome, list[str]]:
    """The outcome under one fault; ``expected`` is the kind of the error, or ``SURVIVED``."""
    broken, endings, differ = [], Counter[str](), 0
    for client in clients:
        undisturbed = whole[client.spoken.path].ended
        assert undisturbed is not None
        endings[_ending(client.ended) if client.ended else client.fault] += 1
        differ += client.ended is None or not client.ended.begins(undisturbed)
        if not _is_truthful(client.ended, expected, undisturbed):
            broken.append(f"{fault}, {client.spoken.path}, event {client.after}: {client.ended or client.fault}")
    words = ", ".join(f"{ending} {count}" for ending, count in endings.most_common())
    times = len({client.after for client in clients})
    return Outcome(fault, times, len(ROUTES), len(clients) - len(broken), len(clients), differ, words), broken


def _is_truthful(ended: Ended | None, expected: str, whole: Ended) -> bool:
    if ended is None:
        return False
    if ended.error is None:
        return ended == whole
    return ended.error in (expected, "response.failed") and ended.begins(whole)


def _ending(ended: Ended) -> str:
    return ended.error or ended.reason or "?"

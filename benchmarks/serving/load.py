"""Load on a contender: closed (clients that wait for their answers) and open (arrivals that do not)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .contender import Contender
from .request import Flight, Request


@dataclass(frozen=True)
class Run:
    """The flights of one run."""

    flights: list[Flight]

    @property
    def tokens(self) -> int:
        return sum(flight.completion_tokens for flight in self.flights)

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second, from the first request sent to the last answer."""
        began = min(flight.sent_s for flight in self.flights)
        return self.tokens / (max(flight.ended_s for flight in self.flights) - began)

    @property
    def first_tokens_s(self) -> list[float]:
        return [flight.first_token_s for flight in self.flights]

    @property
    def gaps_s(self) -> list[float]:
        return [gap for flight in self.flights for gap in flight.gaps_s]


async def closed(contender: Contender, clients: int, requests: Iterable[Request]) -> Run:
    """Run ``clients`` clients, each of which sends the next of ``requests`` when its last has been answered.

    Raises:
        ContenderFailed: one was not answered as it should be.
    """
    waiting = iter(requests)
    flights: list[Flight] = []

    async def client() -> None:
        for request in waiting:
            flights.append(contender.start(request))
            await flights[-1].result()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return Run(flights)


async def burst(contender: Contender, requests: Sequence[Request]) -> Run:
    return await closed(contender, len(requests), requests)


async def arriving(
    contender: Contender, arrivals_s: Sequence[float], requests: Iterable[Request], drain_s: float
) -> Run:
    """Send ``requests`` at ``arrivals_s`` from now, without waiting for those before.

    ``drain_s`` after the last arrival, requests that have not ended are cancelled, and their flights say so.

    Raises:
        ContenderFailed: one was not answered as it should be.
    """
    began = time.monotonic()
    flights: list[Flight] = []
    for at_s, request in zip(arrivals_s, requests, strict=False):
        await asyncio.sleep(max(0.0, began + at_s - time.monotonic()))
        flights.append(contender.start(request))
    results = [asyncio.ensure_future(flight.result()) for flight in flights]
    await asyncio.wait(results, timeout=drain_s)
    for flight in flights:
        if not flight.over.is_set():
            contender.cancel(flight)
    await asyncio.gather(*results)
    return Run(flights)

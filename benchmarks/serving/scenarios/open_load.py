"""Requests at random times: first tokens under open load."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from ...measure import Row
from ..bench import Bench, Outcome, Plot
from ..contender import Contender
from ..figures import milliseconds, percentile, poisson
from ..load import Run, arriving, closed
from ..plots import first_token_cdf

FRACTIONS = (0.3, 0.6, 0.9)
PROMPT = 64
_DRAIN = 1.0  # in durations of the load: a request that is not answered by then never is


async def run(bench: Bench) -> Outcome:
    """Send Poisson arrivals at fractions of our throughput in a closed loop of 32, the same for all contenders.

    A request that has not ended when as much time again has passed is given up: it has no end, and no first token if
    none came.
    """
    answer = max(1, bench.form.answer // 2)
    async with AsyncExitStack() as stack:
        ours, peer = bench.ours(), bench.batch_generator()
        servers, missing = bench.servers()
        await bench.start(stack, ours, peer, *servers)
        clients = bench.form.streams
        full = await closed(ours, clients, bench.prompts.requests(3 * clients, PROMPT, answer))
        capacity_per_s = full.tokens_per_s / answer
        rows: list[Row] = []
        cdf: dict[str, dict[str, list[float]]] = {}
        for n, fraction in enumerate(FRACTIONS):
            rate = fraction * capacity_per_s
            title = f"{rate:.1f} requests/s ({fraction:.0%} of our closed loop)"
            arrivals = poisson(rate, bench.form.seconds, seed=n) or [0.0]  # a short run may draw none
            for contender in (ours, peer, *servers):
                found = await _run(bench, contender, arrivals, answer)
                rows.append(_row(f"{title}: {contender.name}", found))
                cdf.setdefault(title, {})[contender.name] = found.first_tokens_s
    plot = Plot("open-load", "Share of requests whose first token came within a time", partial(first_token_cdf, cdf))
    return Outcome(rows + missing, [plot])


async def _run(bench: Bench, contender: Contender, arrivals: list[float], answer: int) -> Run:
    requests = bench.prompts.requests(len(arrivals), PROMPT, answer)
    return await arriving(contender, arrivals, requests, _DRAIN * bench.form.seconds)


def _row(what: str, found: Run) -> Row:
    p50, p95, p99 = (milliseconds(percentile(found.first_tokens_s, p)) for p in (50, 95, 99))
    lost = sum(flight.finish == "cancelled" for flight in found.flights)
    unanswered = f", {lost} of {len(found.flights)} not answered" if lost else f", {len(found.flights)} requests"
    return Row(what, f"first token p50 {p50}, p95 {p95}, p99 {p99}; {found.tokens_per_s:,.0f} tok/s{unanswered}")

"""Batch invariance: how many tokens differ between alone and in a batch, and the cost of ``--numerics exact``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from ...measure import Row
from ..bench import Bench, Outcome, compete, faster
from ..figures import Comparison
from ..load import closed
from ..request import Flight
from ..sidecar import Sidecar

PROMPT = 32
ANSWER = 100
STREAMS = (1, 8, 32)
SAMPLINGS: dict[str, dict[str, Any]] = {"greedy": {}, "temperature 1": {"temperature": 1.0}}


async def run(bench: Bench) -> Outcome:
    """Count the tokens that differ between the same requests one after the other and 32 at a time.

    The requests are greedy and seeded, the model has 1M parameters. Tokens are counted up to the first difference of
    each request, because after it the texts have nothing to do with each other.
    """
    rows = []
    for numerics, share, asked in (("fast", 1.0, ""), ("exact", 0.5, "0")):
        small = bench.changed(size="1M")
        async with small.ours("--numerics", numerics) as ours:
            for way, settings in SAMPLINGS.items():
                found = await _compare(small, ours, settings, int(share * bench.form.compared) // len(SAMPLINGS))
                what = f"tokens that differ, alone and in a batch of {bench.form.streams}: --numerics {numerics}, {way}"
                figure = f"{found.per_million:.0f} in a million ({found.differing} of {found.compared:,})"
                rows.append(Row(what, figure, asked))
    return Outcome(rows + await _cost(bench))


async def _compare(bench: Bench, ours: Sidecar, settings: dict[str, Any], tokens: int) -> Comparison:
    batch = bench.form.streams
    count, answer = max(batch, tokens // ANSWER), min(ANSWER, tokens // batch)
    requests = [bench.prompts.request(PROMPT, answer, settings=settings, seed=n) for n in range(count)]
    alone = _in_order((await closed(ours, 1, requests)).flights)
    together = _in_order((await closed(ours, batch, requests)).flights)
    found = Comparison()
    for one, other in zip(alone, together, strict=True):
        found.add(one.tokens, other.tokens)
    return found


def _in_order(flights: Sequence[Flight]) -> list[Flight]:
    """Return flights in the order of their requests, each of which has a seed of its own."""
    return sorted(flights, key=lambda flight: flight.request.seed or 0)


async def _cost(bench: Bench) -> list[Row]:
    rows = []
    async with AsyncExitStack() as stack:
        exact, fast = bench.ours("--numerics", "exact"), bench.ours()
        exact.name, fast.name = "exact", "fast"
        await bench.start(stack, exact, fast)
        for streams in (n for n in STREAMS if n <= bench.form.streams):
            asked = partial(bench.prompts.requests, streams, PROMPT, max(8, bench.form.answer // 3))
            done = await compete(min(2, bench.form.rounds), [exact, fast], streams, asked)
            what = f"tokens/s at {streams} streams, {bench.form.size}: --numerics exact against fast"
            rows.append(faster(what, done["exact"], done["fast"]))
    return rows

"""A cancel in the middle of a long prefill: how long its answer takes, in chunks."""

from __future__ import annotations

import asyncio
import random
import time

from ...measure import Row
from ..bench import Bench, Outcome
from ..figures import milliseconds, percentile
from ..sidecar import Sidecar

ATTEMPTS = 10


async def run(bench: Bench) -> Outcome:
    """Send a prompt and cancel it at a random moment of its prefill.

    The length of a chunk is the time from sending to cancelling, divided by the number of chunks that the engine
    counted: the mean of this attempt.
    """
    source = random.Random(5)
    answers_s: list[float] = []
    shares: list[float] = []
    async with bench.ours() as ours:
        await ours.start(bench.prompts.request(64, 2)).result()
        for _ in range(ATTEMPTS if bench.form.rounds > 1 else 3):
            answer_s, chunk_s = await _attempt(bench, ours, source.uniform(0.1, bench.form.patience_s / 15))
            answers_s.append(answer_s)
            shares.append(answer_s / chunk_s)
    figure = f"median {percentile(shares, 50):.2f}, worst {max(shares):.2f} of {len(shares)}"
    times = f"{milliseconds(percentile(answers_s, 50))}, worst {milliseconds(max(answers_s))}"
    what = f"cancel in mid-prefill of {bench.form.long:,} tokens: time to its answer in chunks of prefill"
    return Outcome([Row(what, f"{figure} ({times})", "≤ 1")])


async def _attempt(bench: Bench, ours: Sidecar, after_s: float) -> tuple[float, float]:
    """Seconds from the cancel to the answer, and of a chunk of the prefill it broke off."""
    before = await _chunks(ours)
    flight = ours.start(bench.prompts.request(bench.form.long, 1))
    await asyncio.sleep(after_s)
    cancelled_s = time.monotonic()
    ours.cancel(flight)
    await flight.result()
    if flight.finish != "cancelled":
        raise RuntimeError(f"the prompt of {bench.form.long} tokens was done within {after_s:.2f} s: nothing to cancel")
    chunks = await _chunks(ours) - before
    return flight.ended_s - cancelled_s, (flight.ended_s - flight.sent_s) / max(1, chunks)


async def _chunks(ours: Sidecar) -> int:
    stats = await ours.connection.call("stats", {})
    return int(sum(stats["histograms"]["prefill_step_s"]["counts"]))

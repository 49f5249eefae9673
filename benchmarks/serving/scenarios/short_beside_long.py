"""A short request while a very long prompt is prefilled and eight streams decode."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from math import inf

from ...measure import Row
from ..bench import Bench, Outcome, Plot
from ..contender import Contender
from ..figures import milliseconds, percentile
from ..plots import gaps_over_time
from ..request import Flight

STREAMS = 8
SHORT = 32
_ENDLESS = 16_000  # more than a stream gets to say
_PAUSE_S = 0.05  # between two short requests


@dataclass(frozen=True)
class Step:
    """A decode step: the median gap of the eight streams by themselves, in seconds, before and after the rest.

    Meanwhile the streams get deeper, and their own steps longer with that: in between it is a line over time.
    """

    before_s: float
    after_s: float
    began_s: float
    ended_s: float

    def at(self, time_s: float) -> float:
        part = (time_s - self.began_s) / (self.ended_s - self.began_s)
        return self.before_s + min(1.0, max(0.0, part)) * (self.after_s - self.before_s)


@dataclass
class Seen:
    """One contender over all rounds. The unit is a decode step, as ``Step`` has it."""

    steps: list[Step] = field(default_factory=list)
    own_s: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)  # waits of short requests beyond their own prefill
    gaps: list[float] = field(default_factory=list)
    gaps_alone: list[float] = field(default_factory=list)
    trace: list[tuple[float, float]] = field(default_factory=list)  # of the last round: seconds, and gap in steps
    long_s: list[float] = field(default_factory=list)  # first token of the long prompt


async def run(bench: Bench) -> Outcome:
    """Send short prompts of 32 tokens, one after the other, while a long one is prefilled.

    Their waiting beyond their own prefill on an idle engine, and the gaps of the streams, are told in decode steps,
    measured just before and just after, because the streams get deeper meanwhile.
    """
    async with AsyncExitStack() as stack:
        ours, peer = bench.ours(), bench.batch_generator()
        await bench.start(stack, ours, peer)
        seen = {contender.name: Seen() for contender in (ours, peer)}
        for _ in range(min(2, bench.form.rounds)):
            for contender in (ours, peer):
                await _round(bench, contender, seen[contender.name])
    rows = _rows(ours.name, seen[ours.name], bench, ("≤ 5", "≤ 3 at p99")) + _rows(peer.name, seen[peer.name], bench)
    traces = {name: each.trace for name, each in seen.items()}
    shows = f"Gaps of {STREAMS} streams while a prompt of {bench.form.long:,} tokens is prefilled"
    return Outcome(rows, [Plot("short-beside-long", shows, partial(gaps_over_time, traces))])


async def _round(bench: Bench, contender: Contender, seen: Seen) -> None:
    own_s = statistics.median([(await _short(bench, contender)).first_token_s for _ in range(3)])
    streams = [contender.start(bench.prompts.request(SHORT, _ENDLESS)) for _ in range(STREAMS)]
    for stream in streams:
        await stream.first()
    await asyncio.sleep(bench.form.patience_s / 10)
    long = contender.start(bench.prompts.request(bench.form.long, 1))
    shorts = await _shorts(bench, contender, long)
    ended_s = time.monotonic()
    contender.cancel(long)
    await long.result()
    await asyncio.sleep(bench.form.patience_s / 10)
    for stream in streams:
        contender.cancel(stream)
    await asyncio.gather(*(stream.result() for stream in streams))
    step = _take(seen, streams, (long.sent_s, min(ended_s, long.ended_s)), max(ended_s, long.ended_s))
    seen.own_s.append(own_s)
    seen.delays += [(short.first_token_s - own_s) / step.at(short.sent_s) for short in shorts]
    seen.long_s.append(long.first_token_s)


async def _short(bench: Bench, contender: Contender) -> Flight:
    return await contender.start(bench.prompts.request(SHORT, 2)).result()


async def _shorts(bench: Bench, contender: Contender, long: Flight) -> list[Flight]:
    """Send short requests one by one until the long prompt is done or patience ends; return those it delayed."""
    shorts: list[Flight] = []
    until_s = time.monotonic() + bench.form.patience_s
    while not long.began.is_set() and time.monotonic() < until_s:
        await asyncio.sleep(_PAUSE_S)
        shorts.append(await _short(bench, contender))
    # The last may have come when the prefill was over.
    return [short for short in shorts if short.sent_s < long.sent_s + long.first_token_s] if shorts else shorts


def _take(seen: Seen, streams: Sequence[Flight], during: tuple[float, float], after_s: float) -> Step:
    """Take the gaps of ``streams``, and return their step. After ``after_s`` they are by themselves again."""
    before = [gap for _, gap in _gaps(streams, max(stream.deltas[0][0] for stream in streams), during[0])]
    # The first gap of each began beside the prefill.
    after = [gap for at_s, gap in _gaps(streams, after_s, inf) if at_s - gap > after_s]
    before_s = statistics.median(before)
    step = Step(before_s, statistics.median(after) if after else before_s, *during)
    seen.steps.append(step)
    seen.gaps_alone += [gap / before_s for gap in before]
    seen.trace = [(at_s - during[0], gap / step.at(at_s)) for at_s, gap in _gaps(streams, *during)]
    seen.gaps += [gap for _, gap in seen.trace]
    return step


def _gaps(streams: Sequence[Flight], from_s: float, to_s: float) -> list[tuple[float, float]]:
    """Return the end and the length of each gap that ended within these times."""
    gaps = [
        (at_s, gap)
        for stream in streams
        for (at_s, _), gap in zip(stream.deltas[1:], stream.gaps_s, strict=True)
        if from_s < at_s <= to_s
    ]
    return sorted(gaps)


def _rows(name: str, seen: Seen, bench: Bench, asked: tuple[str, str] = ("", "")) -> list[Row]:
    company = f"beside a prefill of {bench.form.long:,} and {STREAMS} streams"
    own = milliseconds(statistics.median(seen.own_s))
    step = milliseconds(statistics.median(each.before_s for each in seen.steps))
    later = milliseconds(statistics.median(each.after_s for each in seen.steps))
    if not seen.delays:
        return [Row(f"{name}, {company}", "the long prompt was done before a short request came")]
    delays = f"median {percentile(seen.delays, 50):.1f}, p95 {percentile(seen.delays, 95):.1f}, "
    delays += f"worst {max(seen.delays):.1f} of {len(seen.delays)}"
    gaps = f"p99 {percentile(seen.gaps, 99):.1f}, worst {max(seen.gaps):.1f} of {len(seen.gaps):,}"
    alone = f"p99 {percentile(seen.gaps_alone, 99):.1f}"
    took = milliseconds(statistics.median(seen.long_s))
    return [
        Row(
            f"{name}: first token of a short request {company}, decode steps beyond its own prefill",
            f"{delays} (a step {step}, later {later}; own prefill {own})",
            asked[0],
        ),
        Row(f"{name}: gaps of the streams meanwhile, decode steps", f"{gaps} (before: {alone})", asked[1]),
        Row(f"{name}: first token of the long prompt in this company, seen for {bench.form.patience_s:.0f} s", took),
    ]

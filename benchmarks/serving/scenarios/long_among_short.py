"""One long stream among short ones: how much it slows them."""

from __future__ import annotations

import statistics
from contextlib import AsyncExitStack

from ...measure import Row
from ..bench import Bench, Outcome
from ..contender import Contender
from ..figures import milliseconds, ratio
from ..load import Run, burst

SHORTS = 16
SHORT = 32
_ENDLESS = 16_000


async def run(bench: Bench) -> Outcome:
    """Compare the median gap between the deltas of 16 short streams with a long one beside them and without.

    The short ones have 32 prompt tokens; the long one has 4,000, and decodes.
    """
    long = min(4000, bench.form.long)
    async with AsyncExitStack() as stack:
        ours, peer = bench.ours(), bench.batch_generator()
        await bench.start(stack, ours, peer)
        gaps: dict[str, tuple[list[float], list[float]]] = {each.name: ([], []) for each in (ours, peer)}
        for _ in range(min(3, bench.form.rounds)):
            for contender in (ours, peer):
                for figures, gap in zip(gaps[contender.name], await _round(bench, contender, long), strict=True):
                    figures.append(gap)
    return Outcome([_row(name, *gaps[name], long, "≤ 1.3×" if name == ours.name else "") for name in gaps])


async def _round(bench: Bench, contender: Contender, long: int) -> tuple[float, float]:
    """Median gaps in seconds: with the long stream, without it."""
    without = await _shorts(bench, contender)
    stream = contender.start(bench.prompts.request(long, _ENDLESS))
    await stream.first()
    beside = await _shorts(bench, contender)
    contender.cancel(stream)
    await stream.result()
    return statistics.median(beside.gaps_s), statistics.median(without.gaps_s)


async def _shorts(bench: Bench, contender: Contender) -> Run:
    return await burst(contender, [bench.prompts.request(SHORT, bench.form.answer) for _ in range(SHORTS)])


def _row(name: str, beside: list[float], without: list[float], long: int, asked: str) -> Row:
    found = ratio(beside, without)
    figure = f"{found}; {milliseconds(found.ours)} against {milliseconds(found.peer)}"
    return Row(f"{name}: gap of {SHORTS} short streams with one of {long:,} tokens to without", figure, asked)

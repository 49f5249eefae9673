"""Arithmetic over measurements. Pure."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the least of ``values`` that at least ``percent`` % of them do not exceed; infinite values count too.

    Raises:
        ValueError: no values, or ``percent`` outside 0 to 100.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"the {percent}th percentile of {len(values)} values")
    rank = max(1, math.ceil(percent / 100 * len(values)))
    return sorted(values)[rank - 1]


@dataclass(frozen=True)
class Ratio:
    """Ours to a peer's over interleaved rounds: medians of both, and of the ratios round by round with their range."""

    ours: float
    peer: float
    ratio: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f}× ({self.least:.2f} to {self.most:.2f})"


def ratio(ours: Sequence[float], peer: Sequence[float]) -> Ratio:
    """The median of the rounds' ratios, not the ratio of the medians: a machine that drifts over rounds cancels out.

    Raises:
        ValueError: not as many rounds of the one as of the other, or none.
    """
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    if not ratios:
        raise ValueError("no rounds")
    middles = (statistics.median(ours), statistics.median(peer), statistics.median(ratios))
    return Ratio(*middles, min(ratios), max(ratios))


def poisson(rate_per_s: float, duration_s: float, seed: int) -> list[float]:
    """Return independent arrival times in seconds from 0 to ``duration_s``, ascending, at ``rate_per_s``.

    The same arguments give the same times, so that every contender meets the same load.
    """
    source = random.Random(seed)
    times: list[float] = []
    at_s = source.expovariate(rate_per_s)
    while at_s < duration_s:
        times.append(at_s)
        at_s += source.expovariate(rate_per_s)
    return times


@dataclass
class Comparison:
    """Two runs of the same requests, token by token.

    ``compared`` counts tokens up to the first difference, because after it the sequences are unrelated; it is included.
    """

    compared: int = 0
    differing: int = 0

    def add(self, one: Sequence[int], other: Sequence[int]) -> None:
        for a, b in zip(one, other, strict=True):
            self.compared += 1
            if a != b:
                self.differing += 1
                return

    @property
    def per_million(self) -> float:
        return 1e6 * self.differing / self.compared if self.compared else 0.0


def milliseconds(seconds: float) -> str:
    """Return milliseconds with three digits, or words where they are infinite."""
    if math.isinf(seconds):
        return "never"
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.1f} ms"

"""Counters and histograms for ``stats``."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

# Upper bounds in seconds, three to a decade: a decode step takes milliseconds, a long prefill minutes.
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, float("inf"))
# Bounds by the unit at the end of a histogram's name: seconds, rows of a batch, tokens per second.
BOUNDS_BY_UNIT = {
    "s": BOUNDS_S,
    "rows": (1, 2, 4, 8, 16, 32, 64, float("inf")),
    "per_s": (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, float("inf")),
}


class Histogram:
    """Counts values between neighbouring ``bounds``, which ascend; a value equal to a bound counts below it."""

    def __init__(self, bounds: tuple[float, ...] = BOUNDS_S) -> None:
        self._bounds = bounds
        self._counts = [0] * len(bounds)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1

    @property
    def buckets(self) -> list[tuple[float, int]]:
        """(upper bound, count), not cumulative; the last bound is infinity."""
        return list(zip(self._bounds, self._counts, strict=True))


class Metrics:
    """Named counters and histograms, declared at once so that unused ones read as zeros.

    The end of a histogram's name is its unit: ``_s``, ``_rows`` or ``_per_s``.
    """

    def __init__(self, counters: tuple[str, ...], histograms: tuple[str, ...]) -> None:
        self.counters: Counter[str] = Counter(dict.fromkeys(counters, 0))
        self._histograms = {name: Histogram(_bounds_for(name)) for name in histograms}

    def count(self, name: str, by: int = 1) -> None:
        self.counters[name] += by

    def observe(self, name: str, value: float) -> None:
        self._histograms[name].observe(value)

    @property
    def histograms(self) -> dict[str, list[tuple[float, int]]]:
        return {name: histogram.buckets for name, histogram in self._histograms.items()}


def _bounds_for(name: str) -> tuple[float, ...]:
    unit = max((unit for unit in BOUNDS_BY_UNIT if name.endswith("_" + unit)), key=len)
    return BOUNDS_BY_UNIT[unit]

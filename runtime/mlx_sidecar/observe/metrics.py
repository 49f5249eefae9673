"""Counters and histograms, nothing else: whoever answers ``stats`` reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

# Upper bounds in seconds, three to a decade: a decode step takes milliseconds, a long prefill minutes.
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, float("inf"))


class Histogram:
    """How often a duration fell under each bound of ``BOUNDS_S`` (and over the one before it)."""

    def __init__(self) -> None:
        self._counts = [0] * len(BOUNDS_S)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1

    @property
    def buckets(self) -> list[tuple[float, int]]:
        """(upper bound in seconds, count), not cumulative; the last bound is infinity."""
        return list(zip(BOUNDS_S, self._counts, strict=True))


class Metrics:
    """Named counters and histograms. A name exists from its declaration on, so that a reader sees zeros, not gaps."""

    def __init__(self, counters: tuple[str, ...], histograms: tuple[str, ...]) -> None:
        self.counters: Counter[str] = Counter(dict.fromkeys(counters, 0))
        self._histograms = {name: Histogram() for name in histograms}

    def count(self, name: str, by: int = 1) -> None:
        self.counters[name] += by

    def observe(self, name: str, seconds: float) -> None:
        self._histograms[name].observe(seconds)

    @property
    def histograms(self) -> dict[str, list[tuple[float, int]]]:
        return {name: histogram.buckets for name, histogram in self._histograms.items()}

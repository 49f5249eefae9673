"""Spreads the times at which clients that were refused for an overload come back."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST_S, LONGEST_S = 1.0, 60.0
_WEIGHT = 0.2  # of the latest interval in the mean


class Comebacks:
    """Tells each refused client a time of its own.

    Each answer that ends leaves a place. Of all clients that came back for it only one would find it, so the next is
    told to come an interval later: the mean one between two ends, and no longer than the sidecar says. A client that
    was not refused before may still be first.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._told_s = clock_s()
        self._ended_s: float | None = None
        self._between_s: float | None = None

    def ended(self, *, is_last: bool) -> None:
        """An answer has ended; with ``is_last`` no other is on its way, and the time until the next tells nothing."""
        now_s = self._clock_s()
        if self._ended_s is not None:
            between_s = now_s - self._ended_s
            self._between_s = between_s if self._between_s is None else self._mean_with(between_s)
        self._ended_s = None if is_last else now_s

    def wait_s(self, interval_s: float) -> float:
        """How long the next client should wait, ``LEAST_S`` to ``LONGEST_S``; the sidecar says ``interval_s``."""
        now_s = self._clock_s()
        interval_s = interval_s if self._between_s is None else min(interval_s, self._between_s)
        wait_s = min(max(self._told_s - now_s, LEAST_S - interval_s, 0) + interval_s, LONGEST_S)
        self._told_s = now_s + wait_s
        return wait_s

    def _mean_with(self, between_s: float) -> float:
        assert self._between_s is not None
        return self._between_s + _WEIGHT * (between_s - self._between_s)

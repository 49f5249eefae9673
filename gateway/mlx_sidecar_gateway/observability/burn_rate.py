"""Burn rates: how fast the bad requests of the last minutes use up the share of them that is allowed.

A rate of 1 uses exactly what the target leaves; ``ALARM`` is the rate at which two hundredths of what a month may have
are gone in an hour (Google's Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts"). Of the two
windows the long one tells that it matters, the short one that it still goes on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

BUCKET_S = 10
WINDOWS = {"5m": 300 // BUCKET_S, "1h": 3600 // BUCKET_S}
"""The windows, in buckets; of each the latest bucket is not full yet."""

ALARM = 14.4
LEAST_REQUESTS = 10  # in the short window: of fewer a single bad one would be an alarm


@dataclass
class Count:
    """Numbers of good and of bad requests."""

    good: int = 0
    bad: int = 0

    def burn_rate(self, allowed: float) -> float:
        """The share of bad ones over the ``allowed`` one; 0 if there were none."""
        total = self.good + self.bad
        return self.bad / total / allowed if total else 0.0


@dataclass
class Bucket(Count):
    """The requests of ``BUCKET_S`` seconds; buckets are numbered from the clock's zero."""

    number: int = 0


class Windows:
    """Requests of the last five minutes and of the last hour, in at most 360 buckets."""

    def __init__(self) -> None:
        # The buckets of each window that have requests, and their sum. Windows share their buckets.
        self._buckets = {name: deque[Bucket]() for name in WINDOWS}
        self.counts = {name: Count() for name in WINDOWS}

    def add(self, now_s: float, *, is_good: bool) -> None:
        """Count one request that ended at ``now_s``, which never goes back."""
        self.advance(now_s)
        bucket = self._latest(int(now_s // BUCKET_S))
        for count in (bucket, *self.counts.values()):
            count.good += is_good
            count.bad += not is_good

    def advance(self, now_s: float) -> None:
        """Leave out the buckets that are too old at ``now_s``."""
        for name, length in WINDOWS.items():
            buckets, count = self._buckets[name], self.counts[name]
            while buckets and buckets[0].number <= now_s // BUCKET_S - length:
                old = buckets.popleft()
                count.good -= old.good
                count.bad -= old.bad

    def _latest(self, number: int) -> Bucket:
        longest = self._buckets["1h"]
        if not longest or longest[-1].number != number:
            bucket = Bucket(number=number)
            for buckets in self._buckets.values():
                buckets.append(bucket)
        return longest[-1]


@dataclass
class Alarm:
    """Whether an objective burns: from when both windows do, until the short one burns at less than half the rate.

    threshold: The burn rate.
    allowed: The share of requests that may be bad.
    """

    threshold: float
    allowed: float
    windows: Windows = field(default_factory=Windows)
    is_on: bool = False

    def at(self, now_s: float) -> bool:
        """Whether it burns at ``now_s``."""
        self.windows.advance(now_s)
        short, long = self.windows.counts["5m"], self.windows.counts["1h"]
        short_rate = short.burn_rate(self.allowed)
        if self.is_on:
            # Between the two rates it stays as it is: else an action would come and go with each request.
            self.is_on = short_rate >= self.threshold / 2
        elif short.good + short.bad >= LEAST_REQUESTS:
            self.is_on = min(short_rate, long.burn_rate(self.allowed)) > self.threshold
        return self.is_on

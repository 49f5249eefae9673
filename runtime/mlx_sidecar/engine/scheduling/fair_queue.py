"""The fair queue gives lanes turns on the device, by the time that each has had of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

Lane = TypeVar("Lane", bound=Hashable)


class FairQueue:
    """Shares device time evenly among lanes, whatever their operations take.

    Start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng, SIGCOMM 1996): a lane's next operation starts, in virtual
    time, where its last one ended, but not before the present, which is the start of the operation last chosen; the
    one that starts first is next. So lanes that are always due differ by one operation at most, and one that was idle
    neither owes nor is owed.
    """

    def __init__(self) -> None:
        self._present_s = 0.0
        self._ends_s: dict[Hashable, float] = {}

    def next(self, due: Iterable[Lane]) -> Lane | None:
        """Return the lane of ``due`` that has the next turn; of equals the first."""
        lane = min(due, key=self._start_s, default=None)
        if lane is not None:
            self._present_s = self._start_s(lane)
            # An end before the present has no effect any more, so lanes that are gone leave nothing behind.
            self._ends_s = {known: end_s for known, end_s in self._ends_s.items() if end_s > self._present_s}
        return lane

    def charge(self, lane: Hashable, seconds: float) -> None:
        """Note that an operation of ``lane`` took ``seconds`` of the device."""
        self._ends_s[lane] = self._start_s(lane) + seconds

    def _start_s(self, lane: Hashable) -> float:
        return max(self._present_s, self._ends_s.get(lane, 0.0))

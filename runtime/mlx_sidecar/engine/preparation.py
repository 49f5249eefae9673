"""All preparers of an engine, which admission and the loop use as if they were one."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from .core.preparer import Ending, Preparer
from .core.sequence import Sequence
from .scheduling.scheduler import Scheduler


class Preparation:
    """Asks each preparer in its order, and has the scheduler set aside what one of them wants to wait.

    A sequence may wait for several: it goes on when all of them let it.
    """

    def __init__(self, scheduler: Scheduler, preparers: Iterable[Preparer]) -> None:
        self._scheduler = scheduler
        self._preparers = tuple(preparers)

    def check(self, sequence: Sequence) -> None:
        """Raise the ``RpcError`` of the first preparer that refuses ``sequence``."""
        for preparer in self._preparers:
            preparer.check(sequence)

    def arrived(self, sequence: Sequence, now: float) -> None:
        """Tell the preparers that ``sequence`` has come into the queue."""
        for preparer in self._preparers:
            if preparer.arrived(sequence, now):
                self._scheduler.pause(sequence, now, preparer.name)

    def told(self, event: object, now: float) -> None:
        """Tell the preparers of ``event``, which came from a background thread."""
        for preparer in self._preparers:
            preparer.told(event, now)

    def holds_back(self, candidate: Sequence, now: float) -> bool:
        """Set ``candidate``, for which there is a place, aside if a preparer wants that; return whether one did."""
        for preparer in self._preparers:
            if preparer.holds_back(candidate, now):
                self._scheduler.pause(candidate, now, preparer.name)
                return True
        return False

    def resume(self, now: float) -> None:
        """Let the sequences go on whose wait is over."""
        for preparer in self._preparers:
            for sequence in preparer.ready(now):
                self._scheduler.resume(sequence, now, preparer.name)

    def endings(self) -> list[Ending]:
        """Return the sequences that end instead of being admitted."""
        return [ending for preparer in self._preparers for ending in preparer.endings()]

    def left(self, sequence: Sequence) -> None:
        """Tell the preparers that ``sequence`` has left the queue for good."""
        for preparer in self._preparers:
            preparer.left(sequence)

    def next_event_s(self) -> float:
        """Return when the next wait is over by itself; infinite if none is."""
        return min((preparer.next_event_s() for preparer in self._preparers), default=inf)

"""An assignment chooses the next request of each text process. Pure: it is told the time and starts nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from .text_queue import TextQueue
from .text_seat import Job, Seat

EACH_MODEL = 2  # processes at once for one model, because requests for other models need some too
SLOW = 2  # processes at once for requests known to take long, because quick ones need the others
LONG_S = 0.2  # with one request: then its process counts as slow; a request that waited so long is overdue


class Assignment:
    """One pass over the waiting jobs, at ``now_s`` on the loop's clock."""

    def __init__(self, seats: Sequence[Seat], waiting: TextQueue, now_s: float) -> None:
        self._seats = seats
        self._waiting = waiting
        self._now_s = now_s
        self._busy = Counter(path for seat in seats for path in seat.paths)  # processes with work of each model
        self._slow = sum(job.slow for seat in seats for job in islice(seat.jobs, 1))

    def choices(self) -> Iterator[tuple[Seat, Job]]:
        """Pairs in the order of the queue. The caller gives the job to the seat before it takes the next pair."""
        overdue = self._overdue()
        for job in chain(overdue, (job for job in self._waiting if job not in overdue)):
            if not any(seat.has_room for seat in self._seats) or (job.slow and self._slow >= SLOW):
                return
            seat = self._seat_for(job)
            if seat is None and overdue:
                return  # the quick requests that processes have already end soon, and a free process is for this one
            if seat is not None:
                self._busy[job.folder.path] += job.folder.path not in seat.paths
                self._slow += job.slow
                yield seat, job

    @property
    def in_need(self) -> Job | None:
        """The first job that a further process could begin, if all processes are slow."""
        if not all(seat.slow for seat in self._seats):
            return None
        first = next(filter(self._may_begin, self._waiting), None)
        return None if first is None or (first.slow and self._slow >= SLOW) else first

    def _overdue(self) -> list[Job]:
        """The request that has waited longest, if longer than ``LONG_S``, because small ones could pass it for ever.

        While some process is slow, models without an answered request are left out: they may be the slow ones.
        """
        quick_alone = any(seat.slow for seat in self._seats)
        able = self._waiting.firsts(self._may_begin, quick_alone=quick_alone)
        oldest = min(able, key=lambda job: job.asked_s, default=None)
        return [] if oldest is None or self._now_s < oldest.asked_s + LONG_S else [oldest]

    def _may_begin(self, job: Job) -> bool:
        return self._busy[job.folder.path] < EACH_MODEL

    def _seat_for(self, job: Job) -> Seat | None:
        """The seat that begins ``job`` soonest; None if the job has to wait."""
        takers = [seat for seat in self._seats if seat.takes(job)]
        if not self._may_begin(job):
            takers = [seat for seat in takers if job.folder.path in seat.paths]
        return min(takers, key=lambda seat: (len(seat.jobs), job.folder not in seat.read), default=None)

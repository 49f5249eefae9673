"""The text queue orders the requests that wait for a text process. Pure: no process and no clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from .text_seat import Job

KNOWN = 256  # models remembered as quick


class TextQueue:
    """Jobs in the order in which they should begin, in three lanes, each first come first served.

    The first lane is for models whose last answer was quick, the second for models not known, the third for slow jobs.
    """

    def __init__(self) -> None:
        self._quick: OrderedDict[str, None] = OrderedDict()  # directories
        self._lanes: tuple[OrderedDict[Job, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())

    def __iter__(self) -> Iterator[Job]:
        return chain.from_iterable(self._lanes)

    def firsts(self, able: Callable[[Job], bool], *, quick_alone: bool) -> list[Job]:
        """The first ``able`` job of the quick lane, and of the lane of unknown models unless ``quick_alone``."""
        found = (next(filter(able, lane), None) for lane in self._lanes[: 1 if quick_alone else 2])
        return [job for job in found if job is not None]

    def put(self, job: Job) -> None:
        self._lane_of(job)[job] = None

    def put_back(self, jobs: Iterable[Job]) -> None:
        """Put those of ``jobs`` that are not answered at the head of their lanes, in their order."""
        for job in reversed([job for job in jobs if not job.answer.done()]):
            self.put(job)
            self._lane_of(job).move_to_end(job, last=False)

    def drop(self, job: Job) -> None:
        """Forget a job, whether or not it waits."""
        for lane in self._lanes:
            lane.pop(job, None)

    def take_all(self) -> list[Job]:
        taken = list(self)
        for lane in self._lanes:
            lane.clear()
        return taken

    def answered(self, job: Job, *, quick: bool) -> None:
        """Remember whether the job's model answers quickly; forms are each others' strangers."""
        if not job.of_model:
            return
        self._quick.pop(job.folder.path, None)
        if quick:
            self._quick[job.folder.path] = None
            while len(self._quick) > KNOWN:
                self._quick.popitem(last=False)

    def _lane_of(self, job: Job) -> OrderedDict[Job, None]:
        if job.slow:
            return self._lanes[2]
        return self._lanes[0 if job.folder.path in self._quick else 1]

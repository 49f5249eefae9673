"""Which request a text process is given next. Pure: no process, no clock of its own."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ...link.text_messages import ModelFolder, TextReply, ToText

EACH_MODEL = 2  # at once: one model's requests leave a process for those of others
SLOW = 2  # at once, of all models: the other processes are for requests that take no time
# A request may go before others that have waited so much longer than it: a model that is known to answer at once before
# one that nobody has asked yet, and both before what kept a process busy.
UNKNOWN_AFTER_S = 1.0
SLOW_AFTER_S = 5.0
KNOWN = 256  # models that answered at once, remembered


@dataclass(eq=False)
class Job:
    """A request to a text process, and who waits for its answer.

    ``since``, ``began``: in seconds on the loop's clock. ``deaths``: of processes that were working on it. ``slow``: it
    has kept a process busy that others waited for, or has ended one.
    """

    message: ToText
    reply: type[TextReply]
    answer: asyncio.Future[TextReply]
    since: float
    began: float = 0.0
    deaths: int = 0
    slow: bool = False

    @property
    def folder(self) -> ModelFolder:
        return self.message.folder


class TextQueue:
    """The requests that wait, those of a model in their order."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, bool], deque[Job]] = {}  # by directory, what is slow apart
        self._quick: OrderedDict[str, None] = OrderedDict()  # directories

    def __contains__(self, job: Job) -> bool:
        return job in self._waiting.get(_key(job), ())

    def __iter__(self) -> Iterator[Job]:
        return (job for waiting in self._waiting.values() for job in waiting)

    def add(self, job: Job) -> None:
        self._waiting.setdefault(_key(job), deque()).append(job)

    def remove(self, job: Job) -> None:
        """Take out a job that is among those that wait."""
        waiting = self._waiting[_key(job)]
        waiting.remove(job)
        if not waiting:
            del self._waiting[_key(job)]

    def take_all(self, folder: ModelFolder | None = None) -> list[Job]:
        """Take out all jobs, or those that are about ``folder``."""
        taken = [job for job in self if folder is None or job.folder == folder]
        for job in taken:
            self.remove(job)
        return taken

    def next_ones(self, running: Collection[Job]) -> list[Job]:
        """What may begin beside ``running``, one job of each model at most, the most urgent first."""
        busy = Counter(job.folder.path for job in running)
        slow = sum(job.slow for job in running)
        heads = [waiting[0] for waiting in self._waiting.values()]
        able = [job for job in heads if busy[job.folder.path] < EACH_MODEL and not (job.slow and slow >= SLOW)]
        return sorted(able, key=self._due)

    def answered(self, job: Job, quick: bool) -> None:
        """Remember whether the model answers at once."""
        self._quick.pop(job.folder.path, None)
        if quick and not job.slow:
            self._quick[job.folder.path] = None
            while len(self._quick) > KNOWN:
                self._quick.popitem(last=False)

    def _due(self, job: Job) -> float:
        if job.slow:
            return job.since + SLOW_AFTER_S
        return job.since + (0.0 if job.folder.path in self._quick else UNKNOWN_AFTER_S)


def _key(job: Job) -> tuple[str, bool]:
    return job.folder.path, job.slow

"""What a text process was asked: the requests, their order, and the clock that runs for the first of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...link.text_messages import ModelFolder, ReadModel, TextReply, ToText
from ...link.text_work import size_bytes
from .text_worker import TextWorker

AHEAD = 64  # small requests, of some 50 µs each, that a process is given at once: it need not wait for us between two
SMALL_BYTES = 4096


class Job:
    """A request and its answer. To be made on the event loop."""

    def __init__(self, message: ToText) -> None:
        self.message = message
        self.answer: asyncio.Future[TextReply] = asyncio.get_running_loop().create_future()
        self.deaths = 0  # of processes that were working on it
        self.small = not isinstance(message, ReadModel) and size_bytes(message) <= SMALL_BYTES

    @property
    def folder(self) -> ModelFolder:
        return self.message.folder

    def succeed(self, answer: TextReply) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(eq=False)
class Seat:
    """A worker and what it was given, in order: it works on the first of ``jobs``.

    ``read`` are the directories it is known to have read; ``slow`` says that what it works on takes long.
    """

    worker: TextWorker
    jobs: deque[Job] = field(default_factory=deque)
    read: set[ModelFolder] = field(default_factory=set)
    slow: bool = False
    _timer: asyncio.TimerHandle | None = None

    @property
    def paths(self) -> set[str]:
        """The directories it has work of."""
        return {job.folder.path for job in self.jobs}

    @property
    def has_room(self) -> bool:
        """Whether it could take a small request."""
        return self.worker.ready and not self.slow and len(self.jobs) < AHEAD

    def takes(self, job: Job) -> bool:
        """Whether ``job`` would be begun at once, or behind a few small ones."""
        if not self.has_room:
            return False
        return not self.jobs or (job.folder in self.read and job.small and self.jobs[-1].small)

    def arm(self, delay_s: float, call: Callable[..., object], *args: Any) -> None:
        """``call`` it after ``delay_s``, unless the seat is armed anew or disarmed before."""
        self.disarm()
        self._timer = asyncio.get_running_loop().call_later(delay_s, call, *args)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""A seat is one text process with its requests, their order, and the timer of the first of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mlx_sidecar_protocol.errors import InvalidParams, ModelUnsupported, RpcError

from ...link.text_messages import (
    CompileTemplates,
    Constrain,
    Constrained,
    Decoded,
    Encoded,
    EncodedTexts,
    Explained,
    FromText,
    Inspected,
    InspectWeights,
    ModelFolder,
    ModelRead,
    ReadModel,
    RenderedChat,
    RenderedTurn,
    TemplatesCompiled,
    TextRefused,
    TextReply,
    ToText,
)
from ...link.text_work import size_bytes
from .text_worker import TextWorker

AHEAD = 64  # small requests of some 50 µs, given to a process together so that it need not wait for us between two
SMALL_BYTES = 4096

Reply = TypeVar(
    "Reply",
    ModelRead,
    Inspected,
    Encoded,
    EncodedTexts,
    Decoded,
    RenderedChat,
    RenderedTurn,
    Explained,
    TemplatesCompiled,
    Constrained,
)


class Job:
    """A request and the future of its answer, which must be of type ``reply``. To be made on the event loop.

    ``of_model``: it needs a model's files. ``slow``: it has kept a process busy while others waited, or has ended one.
    ``optional``: no request depends on its answer, so it is asked once, and a process that is lost with it is not held
    against the model.
    """

    def __init__(self, message: ToText, reply: type[TextReply]) -> None:
        self.message = message
        self.reply = reply
        self.answer: asyncio.Future[TextReply] = asyncio.get_running_loop().create_future()
        self.asked_s = asyncio.get_running_loop().time()
        self.deaths = 0  # of processes that were working on it
        self.kills = 0  # of such processes, by a SIGKILL that was not ours
        self.slow = False
        self.optional = isinstance(message, CompileTemplates)
        self.of_model = not isinstance(message, Constrain)
        of_files = isinstance(message, ReadModel | InspectWeights | CompileTemplates)
        self.small = not of_files and size_bytes(message) <= SMALL_BYTES

    @property
    def folder(self) -> ModelFolder:
        return self.message.folder

    def answers(self, message: FromText) -> bool:
        """Whether ``message`` answers this request."""
        return isinstance(message, self.reply | TextRefused) and message.op == self.message.op

    def refusal(self, because: str) -> RpcError:
        """The error that refuses what the job is about: its model, or its form."""
        if self.of_model:
            return ModelUnsupported(self.folder.name, because)
        return InvalidParams.field(self.folder.name, because)

    def succeed(self, answer: TextReply) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(eq=False)
class Seat:
    """A worker and its jobs, in order; it works on the first of ``jobs``.

    ``read`` are the directories it is known to have read. ``slow``: the first job takes long. ``began_s`` is the time
    when the worker began with it, on the loop's clock.
    """

    worker: TextWorker
    jobs: deque[Job] = field(default_factory=deque)
    read: set[ModelFolder] = field(default_factory=set)
    slow: bool = False
    began_s: float = 0.0
    _timer: asyncio.TimerHandle | None = None

    @property
    def paths(self) -> set[str]:
        """The directories that its jobs are about."""
        return {job.folder.path for job in self.jobs}

    @property
    def has_room(self) -> bool:
        """Whether the worker could take a small request."""
        return self.worker.ready and not (self.worker.killed or self.slow) and len(self.jobs) < AHEAD

    def works_on(self, job: Job) -> bool:
        return bool(self.jobs) and self.jobs[0] is job

    def takes(self, job: Job) -> bool:
        """Whether ``job`` would be begun at once, or behind a few small ones."""
        if not self.has_room:
            return False
        if not self.jobs:
            return True
        last = self.jobs[-1]
        return (job.folder in self.read or not job.of_model) and all(
            each.small and not each.slow for each in (job, last)
        )

    def arm(self, delay_s: float, call: Callable[..., object], *args: Any) -> None:
        """Run ``call(*args)`` after ``delay_s``, unless the seat is armed anew or disarmed before."""
        self.disarm()
        self._timer = asyncio.get_running_loop().call_later(delay_s, call, *args)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

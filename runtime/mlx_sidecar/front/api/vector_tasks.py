"""A request for vectors is a task for each of its texts, a window of which the engine has at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple, Protocol, TypeVar

import anyio

from mlx_sidecar_protocol.embed import EmbedParams, RerankParams
from mlx_sidecar_protocol.errors import Cancelled, DeadlinePassed, InternalError, ModelNotLoaded, RpcError

from ...link.messages import Embed, Priority, Score, Submit
from ..streams.recovery import Recovery
from ..streams.task import Ending, EngineTask
from .model_catalog import ModelCatalog
from .sink import Sink

# Two steps' worth of places: one that runs and one that waits. More would stand in the queue before other requests.
AT_ONCE = 64


class Text(NamedTuple):
    """The tokens of one text, and what is to be made of them."""

    tokens: list[int]
    goal: Embed | Score


class Prepared(Protocol):
    """A request as its model will honour it, with the texts that the engine is given."""

    @property
    def texts(self) -> list[Text]: ...


P = TypeVar("P", bound=Prepared)


class _Request(NamedTuple):
    """A request for ``model``. Its ``deadline`` is on the monotonic clock; infinity if it has none."""

    recovery: Recovery
    sink: Sink
    model: str
    priority: Priority
    deadline: float


class VectorTasks:
    """Carries the requests for vectors of a front."""

    def __init__(self, catalog: ModelCatalog, recovery: Recovery) -> None:
        self._catalog = catalog
        self._recovery = recovery

    async def run(
        self, sink: Sink, params: EmbedParams | RerankParams, prepare: Callable[[], Awaitable[P]]
    ) -> tuple[P, list[Ending]]:
        """Return what ``prepare`` has made of ``params``, and the endings of its texts, in order: each has a vector.

        ``prepare`` has the model loaded; it is called again if the model was evicted before the engine came to it.
        Raises the error of the first text that got no vector, Cancelled and DeadlinePassed; and those of ``prepare``.
        """
        deadline = time.monotonic() + (params.deadline_s or float("inf"))
        request = _Request(self._recovery, sink, params.model, params.priority, deadline)
        try:
            return await _attempt(request, prepare)
        except ModelNotLoaded:
            if self._catalog.is_leaving(params.model):
                raise
            self._catalog.evicted(params.model)  # since the look-up; tried once more only
            return await _attempt(request, prepare)


async def _attempt(request: _Request, prepare: Callable[[], Awaitable[P]]) -> tuple[P, list[Ending]]:
    prepared: P | None = None
    with anyio.CancelScope(deadline=request.deadline) as scope:
        request.sink.on_cancel(scope.cancel)
        prepared = await prepare()
    if request.sink.cancelled:
        raise Cancelled
    if prepared is None or scope.cancelled_caught or time.monotonic() >= request.deadline:
        raise DeadlinePassed
    return prepared, await _Course(request, prepared.texts).run()


class _Course:
    """One attempt: at the first text that gets no vector, all others end."""

    def __init__(self, request: _Request, texts: list[Text]) -> None:
        self._request = request
        self._texts = texts
        self._left = iter(enumerate(texts))
        self._open: set[EngineTask] = set()
        self._endings: dict[int, Ending] = {}
        self._failure: RpcError | None = None

    async def run(self) -> list[Ending]:
        request = self._request
        request.sink.on_cancel(lambda: self._stop(Cancelled(), "cancelled"))
        request.sink.on_shed(self._shed)
        loop = asyncio.get_running_loop()
        overdue = loop.call_at(request.deadline, self._stop, DeadlinePassed(), "deadline")
        try:
            await asyncio.gather(*(self._work() for _ in self._texts[:AT_ONCE]))
        finally:
            overdue.cancel()
        if self._failure is not None:
            raise self._failure
        return [self._endings[number] for number in range(len(self._texts))]

    async def _work(self) -> None:
        """Carry one text after the other, while there are any."""
        for number, text in self._left:
            if self._failure is not None:
                return
            try:
                ending = await self._carried(text)
            except RpcError as error:  # the journal is full, or engines have been given up
                self._stop(error, "cancelled")
                return
            if ending.reason == "length":
                self._endings[number] = ending
            else:
                self._stop(_error_of(ending), "cancelled")

    async def _carried(self, text: Text) -> Ending:
        request = self._request
        left_s = request.deadline - time.monotonic()
        submit = Submit(
            seq=request.recovery.tasks.next_number(),
            model=request.model,
            tokens=text.tokens,
            goal=text.goal,
            priority=request.priority,
            deadline_s=None if left_s == float("inf") else max(0.0, left_s),
        )
        task = EngineTask(submit)
        with request.recovery.carrying(task):
            self._open.add(task)
            try:
                return await task.ended
            finally:
                self._open.discard(task)

    def _stop(self, error: RpcError, reason: Literal["cancelled", "deadline"]) -> None:
        """End all with ``error``. Later calls do nothing."""
        if self._failure is None:
            self._failure = error
            for task in list(self._open):
                self._request.recovery.end(task, reason)

    def _shed(self, error: RpcError) -> None:
        if not self._endings:
            for task in list(self._open):
                self._request.recovery.refuse(task, error)


def _error_of(ending: Ending) -> RpcError:
    if ending.reason == "cancelled":
        return Cancelled()
    return DeadlinePassed() if ending.reason == "deadline" else ending.error or InternalError()

"""A request task prepares a request, has the engine work on it, and ends it at its deadline or a cancel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import anyio

from mlx_sidecar_protocol.errors import Cancelled, ModelNotLoaded

from ..streams.recovery import Recovery
from ..streams.task import Ending, EngineTask
from .model_catalog import ModelCatalog
from .sink import Sink

Prepare = Callable[[], Awaitable[EngineTask]]


@dataclass(frozen=True)
class RequestTask:
    """The course of one request for ``model``. ``deadline`` is on the monotonic clock; infinity if it has none.

    ``hearing`` is the block in which a task is carried: its stream is open there, if it has one.
    """

    catalog: ModelCatalog
    recovery: Recovery
    sink: Sink
    model: str
    deadline: float
    hearing: Callable[[], AbstractContextManager[object]] = nullcontext

    async def run(self, prepare: Prepare) -> Ending | None:
        """The ending of the task that ``prepare`` makes; None if the deadline came before there was one.

        ``prepare`` has the model loaded; it is called again if the model was evicted before the engine came to it.
        Raises Cancelled if a cancel came before there was a task, and the errors of ``prepare`` and the recovery.
        """
        ending = await self._attempt(prepare)
        if ending is None or not isinstance(ending.error, ModelNotLoaded) or ending.started:
            return ending
        gone = str(ending.error.details.get("model", self.model))  # or the one that makes proposals for it
        if not self.catalog.is_leaving(gone):
            # Evicted since the look-up; tried once more only.
            self.catalog.evicted(gone)
            ending = await self._attempt(prepare)
        return ending

    async def _attempt(self, prepare: Prepare) -> Ending | None:
        task: EngineTask | None = None
        with anyio.CancelScope(deadline=self.deadline) as scope:
            self.sink.on_cancel(scope.cancel)
            task = await prepare()
        if self.sink.cancelled:
            raise Cancelled
        if scope.cancelled_caught or task is None or time.monotonic() >= self.deadline:
            return None
        return await self._carried(task)

    async def _carried(self, task: EngineTask) -> Ending:
        with self.hearing(), self.recovery.carrying(task):
            self.sink.on_cancel(lambda: self.recovery.end(task, "cancelled"))
            self.sink.on_shed(lambda error: self.recovery.refuse(task, error))
            overdue = asyncio.get_running_loop().call_at(self.deadline, self.recovery.end, task, "deadline")
            try:
                return await task.ended
            finally:
                overdue.cancel()

"""Placement gives the engine the tasks that it may have, and has their models loaded first."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from mlx_sidecar_protocol.errors import InternalError, RpcError

from ...containment import CONTROL_FLOW, LEAVING
from ...link.messages import RANKS, Cancel, Pause, Resume, Submit, Vocabulary
from .poison_search import PoisonSearch
from .task import EngineTask, OpenTasks

_MOST_EVICTIONS = 3  # of a model under a task that has begun

log = logging.getLogger(__name__)


class Engine(Protocol):
    """The supervisor, as far as tasks need it."""

    @property
    def takes_work(self) -> bool: ...
    def submit(self, message: Submit | Vocabulary) -> None: ...
    def post(self, message: Cancel | Pause | Resume) -> None: ...
    def restored(self) -> None: ...
    def wake(self, *, urgent: bool = False) -> None: ...


class Models(Protocol):
    """The catalog, as far as tasks need it."""

    def holds(self, name: str) -> bool: ...
    def is_leaving(self, name: str) -> bool: ...
    def engine_lost(self) -> list[str]: ...
    def vocabulary_due(self, name: str) -> bool: ...
    def evicted(self, name: str) -> None: ...
    async def restore(self, name: str) -> None: ...


class Placement:
    """Places the tasks of a front. It lives on the event loop and never waits there; call ``attach`` first.

    ``search`` says which tasks may run now; ``post`` sends the engine a message about a sequence; ``fail`` ends a task
    with an error.
    """

    def __init__(
        self,
        tasks: OpenTasks,
        search: PoisonSearch,
        *,
        post: Callable[[Pause], None],
        fail: Callable[[EngineTask, RpcError], None],
    ) -> None:
        self._tasks = tasks
        self._search = search
        self._post = post
        self._fail = fail
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._evictions: Counter[int] = Counter()
        self._engine: Engine
        self._models: Models

    def attach(self, engine: Engine, models: Models) -> None:
        self._engine = engine
        self._models = models

    def place(self, task: EngineTask) -> None:
        """Give the engine ``task`` if it may have it, its model first."""
        if task.placed or not self._engine.takes_work or not self._search.admits(task.seq):
            return
        if not self._models.holds(task.model):
            self._fetch(task.model)
            return
        if any(model in self._fetching for model in task.models):  # without its draft model it would be slower
            return
        if task.vocabulary is not None and self._models.vocabulary_due(task.model):
            self._engine.submit(task.vocabulary)
        self._engine.submit(task.submission())
        task.placed = True
        if task.paused:
            self._post(Pause(task.seq))

    def place_all(self) -> None:
        """Give the engine all tasks that it may have, the most urgent first."""
        waiting = [task for task in self._tasks.running if not task.placed]
        for task in sorted(waiting, key=lambda task: (RANKS[task.priority], task.opened_at)):
            try:
                self.place(task)
            except LEAVING:
                raise
            except BaseException:  # e.g. it cannot be encoded: no reason for the others to wait
                log.exception("a stream could not be given to the engine")
                self._fail(task, InternalError())

    def place_again(self, task: EngineTask) -> bool:
        """The engine answered that the model of ``task`` is gone: whether ``task`` waits for it to be loaded again.

        That is so for one that has run on an engine before, a few times.
        """
        model = task.model
        self._models.evicted(model)
        self._evictions[task.seq] += 1
        too_often = self._evictions[task.seq] > _MOST_EVICTIONS
        if too_often or not task.interruptions or self._models.is_leaving(model):
            return False
        task.placed = False
        self.place(task)
        return True

    def forget(self, task: EngineTask) -> None:
        """``task`` has ended."""
        self._evictions.pop(task.seq, None)

    def engine_lost(self) -> None:
        """Load the lost engine's models on the next one, those that tasks had there first."""
        needed = {model for task in self._tasks.running if task.placed for model in task.models}
        for model in sorted(self._models.engine_lost(), key=lambda model: model not in needed):
            self._fetch(model)

    def engine_ready(self) -> None:
        """A new engine takes work; the models are being loaded there."""
        if not self._fetching:
            self._engine.restored()
        self.place_all()

    def _fetch(self, model: str) -> None:
        """Have ``model`` loaded, and then place the tasks that wait for it."""
        if model not in self._fetching:
            self._fetching[model] = asyncio.get_running_loop().create_task(self._bring_back(model))

    async def _bring_back(self, model: str) -> None:
        try:
            await self._models.restore(model)
        except RpcError as error:
            log.warning("%s is not loaded again: %s", model, error)
            self._not_coming_back(model, error)
        except CONTROL_FLOW:
            raise
        except BaseException:
            log.exception("%s is not loaded again", model)  # a bug of ours; no task is to wait for it
            self._not_coming_back(model, InternalError())
        finally:
            del self._fetching[model]
        self._engine.restored()
        self.place_all()

    def _not_coming_back(self, model: str, error: RpcError) -> None:
        for task in self._tasks.running:
            if task.model == model and not task.placed:
                self._fail(task, error)

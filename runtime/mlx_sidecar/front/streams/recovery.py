"""Recovery keeps every open task alive across engines.

A task is *placed* while an engine has it. When an engine is lost its tasks are not: their hosts are told, the models
are loaded again on the next engine, and each task is placed there as its prompt and the tokens that came of it so far.
``poison_search`` decides which tasks may run together after deaths, and which one is to blame.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

from mlx_sidecar_protocol.errors import InternalError, ModelInUse, ModelNotLoaded, PoisonRequest, RpcError

from ...containment import LEAVING, contained
from ...link.faults import error_from
from ...link.messages import Cancel, Dropped, Finished, FinishReason, Pause, Resume, Tokens
from .journal import Journal
from .placement import Engine, Models, Placement
from .poison_search import PoisonSearch
from .task import Ending, EngineTask, OpenTasks

GRACE_S = 1.0  # for the engine to end a sequence when told to; then a device operation is not coming back

log = logging.getLogger(__name__)


class Recovery:
    """The supervisor's client. It lives on the event loop and never waits there; call ``attach`` first.

    The engine has ``grace_s`` to end a sequence when it is told to; ``counters`` are for ``stats``.
    """

    def __init__(self, journal: Journal, grace_s: float = GRACE_S) -> None:
        self.tasks = OpenTasks()
        self.counters: Counter[str] = Counter(interruptions=0, poisoned=0)
        self._journal = journal
        self._grace_s = grace_s
        self._poison_search = PoisonSearch()
        self._placement = Placement(self.tasks, self._poison_search, post=self.post, fail=self._finish_with)
        self._engine: Engine
        self._models: Models

    def attach(self, engine: Engine, models: Models) -> None:
        self._engine = engine
        self._models = models
        self._placement.attach(engine, models)

    @property
    def isolating(self) -> bool:
        """Whether tasks wait while the search for the one that ends the engine goes on."""
        return self._poison_search.active

    @property
    def held(self) -> int:
        """Tasks that no engine has at the moment."""
        return sum(not task.placed for task in self.tasks.running)

    # The course of a task.

    @contextmanager
    def carrying(self, task: EngineTask) -> Iterator[None]:
        """Keep ``task`` open, and with an engine, while the block runs.

        Raises OutOfMemory if the journal is full, EngineLost or EngineStalled if engines have been given up.
        """
        self._engine.wake()
        with self._journal.holding(task.entry):
            self.tasks.open(task)
            try:
                self._placement.place(task)
                yield
            finally:
                self.tasks.close(task)
                self._make_way(task)

    def end(self, task: EngineTask, reason: Literal["cancelled", "deadline"]) -> None:
        """Have ``task`` end: by its engine, which knows how far it is, or without one that has it or reacts."""
        if task.ended.done() or task.leaving is not None:
            return
        if task.placed:
            self.post(Cancel(task.seq, reason))
        else:
            self._finish(task, _ending(task, reason))

    def refuse(self, task: EngineTask, error: RpcError) -> None:
        """End ``task`` with ``error`` unless something has come of it already."""
        if task.ended.done() or task.started:
            return
        if task.placed:
            self.post(Cancel(task.seq))
        self._finish_with(task, error)

    def unloading(self, model: str, *, force: bool) -> None:
        """``model`` is about to go: tasks that no engine has are in its way, or end with ``force``.

        Raises ModelInUse.
        """
        using = [task for task in self.tasks.running if model in task.models]
        held = [task for task in using if not task.placed]
        if held and not force:
            raise ModelInUse(model, len(using))
        for task in held:
            self._finish_with(task, ModelNotLoaded(model))

    def post(self, message: Cancel | Pause | Resume) -> None:
        """Send the engine ``message``, if there is one. A cancel takes effect whether the engine reacts or not."""
        if (task := self.tasks.get(message.seq)) is not None:
            task.told(message)
        self._engine.post(message)
        if isinstance(message, Cancel):
            asyncio.get_running_loop().call_later(self._grace_s, self._give_up, message.seq)
        elif isinstance(message, Pause) and self._poison_search.pause(message.seq):
            self._placement.place_all()

    # Called by the supervisor.

    # A fault of ours in one of these ends its tasks with internal_error, because they would wait for ever.

    def on_tokens(self, message: Tokens) -> None:
        try:
            task = self.tasks.get(message.seq)
            if task is not None and task.listener is not None:
                task.listener.on_tokens(message)
            if self._poison_search.progressed(message.seq):
                self._placement.place_all()
        except LEAVING:
            raise
        except BaseException:
            log.exception("tokens of a stream could not be taken in")
            self._fail([message.seq])

    def on_finished(self, message: Finished) -> None:
        task = self.tasks.get(message.seq)
        if task is None:
            return
        if task.listener is not None and not task.listener.end_of_text(partial(self.on_finished, message)):
            return
        try:
            self._finished(task, message)
        except LEAVING:
            raise
        except BaseException:
            log.exception("the end of a stream could not be taken in")
            self._fail([message.seq])

    def _finished(self, task: EngineTask, message: Finished) -> None:
        error = None if message.fault is None else error_from(message.fault)
        if isinstance(error, ModelNotLoaded) and error.details["model"] == task.model and not message.started:
            if task.leaving is not None:  # a cancel behind it found nothing to end
                self._finish(task, _ending(task, task.leaving))
                return
            if self._placement.place_again(task):
                return
        ending = Ending(
            reason=message.reason,
            started=message.started or task.started,
            # The figures of this engine leave out the work of an earlier one.
            timing=task.timing if task.interruptions else message.timing,
            error=error,
            stop_token=message.stop_token,
            complete=message.complete is True,
            cached_tokens=message.cached_tokens,
            cached_disk=message.cached_disk,
            uncacheable=message.uncacheable,
            pinned=message.pinned,
            nearest=message.nearest,
            vector=message.vector,
        )
        self._finish(task, ending)

    def on_dropped(self, message: Dropped) -> None:
        """A step failed: the engine lives, but its state of these sequences is lost."""
        dropped = [task for seq in message.seqs if (task := self.tasks.get(seq)) is not None]
        had = len(message.running)
        try:
            self._interrupted(dropped, message.running, f"a step failed: {message.fault.message}", had=had)
        except LEAVING:
            raise
        except BaseException:
            log.exception("that a step failed could not be taken in")
            self._fail(message.seqs)
        self._placement.place_all()

    def on_evicted(self, model: str) -> None:
        self._models.evicted(model)

    def on_engine_lost(self, running: frozenset[int], because: str, *, forced: bool) -> bool:
        placed = [task for task in self.tasks.running if task.placed]
        try:
            self._placement.engine_lost()
            # Any other that it had may be the cause: the device works ahead, and the page names only its last work.
            had = len({task.seq for task in placed} | running)
            return self._interrupted(placed, running, because, had=had, forced=forced)
        except LEAVING:
            raise
        except BaseException:
            log.exception("the loss of the engine could not be taken in")
            self._fail([task.seq for task in placed])
            return False

    def on_engine_ready(self) -> None:
        self._placement.engine_ready()

    def on_given_up(self, error: RpcError) -> None:
        for task in self.tasks.running:
            with contained(log, "the end of a stream could not be told"):
                self._finish_with(task, error)

    # How it is done.

    def _interrupted(
        self, tasks: list[EngineTask], running: Collection[int], because: str, *, had: int, forced: bool = False
    ) -> bool:
        """``tasks`` have lost their state in the engine, which was working on ``running``.

        ``had`` in all may have caused it: ``running``, and those that cannot be named any more or were about to run.
        Returns whether that told us anything of which is to blame.
        """
        for task in tasks:
            task.placed = False
            if task.listener is not None:
                task.listener.discard()
            if task.leaving is not None:
                # No other is placed in its stead before it is known which ones may be.
                task.finish(_ending(task, task.leaving))
                self._forget(task)
        there = [seq for seq in running if self.tasks.get(seq) is not None]
        verdict = self._poison_search.died(there, beside=had - len(there), forced=forced)
        for seq in verdict.poisoned:
            log.warning("a request is not tried again, for engines were lost with it: %s", because)
            self.counters["poisoned"] += 1
            if (guilty := self.tasks.get(seq)) is not None:
                self._finish_with(guilty, PoisonRequest(because))
        for task in tasks:
            if not task.ended.done():
                self._goes_on(task, because)
        return verdict.narrowed

    def _goes_on(self, task: EngineTask, because: str) -> None:
        self.counters["interruptions"] += 1
        task.interruptions += 1
        if task.listener is not None:
            task.listener.on_interrupted(because)

    def _fail(self, seqs: Collection[int]) -> None:
        """End those of ``seqs`` that have not ended: a fault of ours has left them where nothing goes on."""
        for seq in seqs:
            if (task := self.tasks.get(seq)) is not None:
                with contained(log, "a stream could not be ended"):
                    self._engine.post(Cancel(seq))
                    self._finish_with(task, InternalError())

    def _give_up(self, seq: int) -> None:
        """The engine was told to end this one, and has had its time."""
        if (task := self.tasks.get(seq)) is not None:
            self._finish(task, _ending(task, task.leaving or "cancelled"))

    def _finish(self, task: EngineTask, ending: Ending) -> None:
        task.finish(ending)
        self._make_way(task)

    def _finish_with(self, task: EngineTask, error: RpcError) -> None:
        self._finish(task, _ending(task, "error", error))

    def _make_way(self, task: EngineTask) -> None:
        if self._forget(task):
            self._placement.place_all()

    def _forget(self, task: EngineTask) -> bool:
        """Whether tasks that waited may run now."""
        self._placement.forget(task)
        return self._poison_search.ended(task.seq)


def _ending(task: EngineTask, reason: FinishReason, error: RpcError | None = None) -> Ending:
    return Ending(reason=reason, started=task.started, timing=task.timing, error=error)

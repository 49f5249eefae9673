"""A task is the work of the engine on one request, carried from engine to engine until it has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from mlx_sidecar_protocol.errors import RpcError

from ...link.messages import (
    Cancel,
    FinishReason,
    Nearest,
    Pause,
    Priority,
    Resume,
    Submit,
    Timing,
    Tokens,
    Vocabulary,
)
from .journal import JournalEntry


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a task ended. ``error`` goes with the reason ``error``; ``started`` is false if no device work was done.

    ``stop_token`` ended it, if a token did. ``complete``: the engine told that the answer has its whole form. The rest
    is the engine's account of the prefix cache; see ``Finished``.
    """

    reason: FinishReason
    started: bool
    timing: Timing
    error: RpcError | None = None
    stop_token: int | None = None
    complete: bool = False
    cached_tokens: int = 0
    cached_disk: int = 0
    uncacheable: str = ""
    pinned: int = 0
    nearest: Nearest | None = None
    vector: bytes = b""


class Listener(Protocol):
    """Takes in the engine's messages about a task, on the event loop; the feed of a text stream is one."""

    @property
    def emitted(self) -> list[int]:
        """The tokens that were taken in: another engine goes on behind them."""
        ...

    def on_tokens(self, message: Tokens) -> None:
        """New tokens from the engine."""
        ...

    def end_of_text(self, then: Callable[[], None]) -> bool:
        """Whether all text is there; else ``then`` is called when it is."""
        ...

    def discard(self) -> None:
        """The engine was lost: it has told of tokens that were not taken in, and the next one tells of them again."""
        ...

    def on_interrupted(self, because: str) -> None:
        """The task goes on, on an engine to come."""
        ...

    def finish(self, ending: Ending) -> None:
        """Settle how the task ended. Later calls do nothing."""
        ...


class EngineTask:
    """One sequence as the front sees it, on the event loop.

    ``entry`` and the tokens that its listener took in are the journal: another engine needs no more to go on. A task
    without a listener gives no tokens, because its goal is no ``Generate``.
    """

    def __init__(self, submit: Submit, vocabulary: Vocabulary | None = None) -> None:
        """``vocabulary`` is what an engine must have before a sequence with a constraint."""
        self.entry = JournalEntry(submit)
        self.vocabulary = vocabulary
        self.listener: Listener | None = None
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.opened_at = time.monotonic()
        self.first_token_at: float | None = None
        # Recovery's alone:
        self.placed = False  # the engine has it
        self.interruptions = 0  # engines that were lost with it
        # The engine was told:
        self.leaving: FinishReason | None = None  # to end it
        self.paused = False  # to wait for the host

    @property
    def seq(self) -> int:
        """The engine's number for it: the same on every engine."""
        return self.entry.seq

    @property
    def model(self) -> str:
        return self.entry.model

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it needs: its own, and the one that makes proposals for it."""
        return self.entry.models

    @property
    def priority(self) -> Priority:
        return self.entry.priority

    @property
    def started(self) -> bool:
        """Whether a token came of it."""
        return self.first_token_at is not None

    @property
    def timing(self) -> Timing:
        """Where the time went until now, without the engine's own figures: time in the queue counts as prefill."""
        now = time.monotonic()
        first = now if self.first_token_at is None else self.first_token_at
        return Timing(0.0, first - self.opened_at, now - first)

    def submission(self) -> Submit:
        """The request for an engine: to go on behind the tokens that were taken in."""
        emitted = [] if self.listener is None else self.listener.emitted
        return self.entry.submission(emitted, again=self.interruptions > 0)

    def told(self, message: Cancel | Pause | Resume) -> None:
        """The engine is being told ``message`` about it."""
        if isinstance(message, Cancel):
            self.leaving = message.reason
        else:
            self.paused = isinstance(message, Pause)

    def begin(self) -> None:
        """Its first token has come."""
        self.first_token_at = time.monotonic()

    def finish(self, ending: Ending) -> None:
        """End it, its listener first. Later calls do nothing."""
        if self.listener is None:
            self.settle(ending)
        else:
            self.listener.finish(ending)

    def settle(self, ending: Ending) -> None:
        """Its listener, if it has one, has taken in all. Later calls do nothing."""
        if not self.ended.done():
            self.ended.set_result(ending)


class OpenTasks:
    """The open tasks by the engine's number, which is given once only."""

    def __init__(self) -> None:
        self._open: dict[int, EngineTask] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def running(self) -> list[EngineTask]:
        """The tasks that have not ended."""
        return [task for task in self._open.values() if not task.ended.done()]

    def get(self, number: int) -> EngineTask | None:
        """The task with the engine's ``number``, unless it has ended."""
        task = self._open.get(number)
        return None if task is None or task.ended.done() else task

    def next_number(self) -> int:
        return next(self._numbers)

    def open(self, task: EngineTask) -> None:
        self._open[task.seq] = task

    def close(self, task: EngineTask) -> None:
        self._open.pop(task.seq, None)

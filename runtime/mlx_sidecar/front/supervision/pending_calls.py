"""Control requests that wait for their answer. They outlive the engine they were sent to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from mlx_sidecar_protocol.errors import EngineLost, RpcError

from ...link.messages import (
    CacheCleared,
    CacheFigures,
    CacheMoved,
    ClearCache,
    EngineStats,
    ExportCache,
    ImportCache,
    Load,
    Loaded,
    Models,
    Progress,
    QueryCache,
    QueryModels,
    QueryStats,
    Unload,
    Unloaded,
)

Control = Load | Unload | QueryModels | QueryStats | QueryCache | ClearCache | ExportCache | ImportCache
Reply = Loaded | Unloaded | Models | EngineStats | CacheFigures | CacheCleared | CacheMoved
OnProgress = Callable[[Progress], None]

_MOST_DEATHS = 2  # under one load
_MOST_KILLS = 5  # the same, by others: who kills engines at random may well hit a load twice


class LoadLost(EngineLost):
    """A load was given up because engines were lost while they worked on it."""


@dataclass
class _Call:
    message: Control
    future: asyncio.Future[Any]
    on_progress: OnProgress | None
    deaths: int = 0  # of engines that were loading for it


class PendingCalls:
    """By ``op``, in the order they were made. Lives on the front's event loop."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}

    def add(self, message: Control, on_progress: OnProgress | None = None) -> asyncio.Future[Any]:
        """The answer to come. Its caller calls ``forget`` when it no longer waits."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[message.op] = _Call(message, future, on_progress)
        return future

    def forget(self, op: int) -> None:
        self._calls.pop(op, None)

    @property
    def unanswered(self) -> list[Control]:
        """What the next engine has to be asked again."""
        return [call.message for call in self._calls.values()]

    def progressed(self, progress: Progress) -> None:
        call = self._calls.get(progress.op)
        if call is not None and call.on_progress is not None:
            call.on_progress(progress)

    def settle(self, op: int, outcome: Reply | RpcError) -> None:
        """The end of ``op``; of one that nobody waits for any more, nothing."""
        call = self._calls.pop(op, None)
        if call is None or call.future.done():  # its caller was cancelled meanwhile
            return
        if isinstance(outcome, RpcError):
            call.future.set_exception(outcome)
        else:
            call.future.set_result(outcome)

    def survive(self, loading: Collection[int], because: str, *, forced: bool = False) -> bool:
        """The engine was lost, or ``forced`` to end, while it worked on the loads ``loading``.

        What cannot be asked again fails. Returns whether a load was given up that had ended engines: it will not end
        the next one.
        """
        found = False
        for op, call in list(self._calls.items()):
            if isinstance(call.message, QueryStats | QueryCache | ExportCache | ImportCache):
                # Figures of an engine that is gone; conversations that it had, or is to have, in its memory.
                self.settle(op, EngineLost(because))
            elif isinstance(call.message, Load) and op in loading:
                call.deaths += 1
                if call.deaths >= (_MOST_KILLS if forced else _MOST_DEATHS):
                    self.settle(op, LoadLost(f"engines were lost {call.deaths} times while loading it: {because}"))
                    found = True
        return found

    def fail(self, error: Callable[[], RpcError]) -> None:
        """Answer all. Each gets an error of its own, since a raised one keeps the frames it went through."""
        for op in list(self._calls):
            self.settle(op, error())

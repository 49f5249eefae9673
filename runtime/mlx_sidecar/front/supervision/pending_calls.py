"""Control requests wait here for their answer, and outlive the engine they were sent to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from mlx_sidecar_protocol.errors import EngineLost, RpcError

from ...link.adapter_messages import LoadAdapter, QueryAdapters, UnloadAdapter
from ...link.cache_messages import ClearCache, ExportCache, ImportCache, QueryCache
from ...link.control_messages import Load, Progress, QueryModels, QueryStats, Unload
from ...link.messages import Reply

Control = (
    Load
    | Unload
    | LoadAdapter
    | UnloadAdapter
    | QueryAdapters
    | QueryModels
    | QueryStats
    | QueryCache
    | ClearCache
    | ExportCache
    | ImportCache
)
OnProgress = Callable[[Progress], None]

_MOST_DEATHS = 2  # of engines under one load
_MOST_KILLS = 5  # the same, by signals from elsewhere, because a random killer may well hit one load twice


class LoadLost(EngineLost):
    """A load was given up because engines were lost while they worked on it."""


@dataclass
class _Call:
    message: Control
    future: asyncio.Future[Any]
    on_progress: OnProgress | None
    deaths: int = 0  # of engines that were loading for it


class PendingCalls:
    """The unanswered calls by ``op``, in the order they were made; lives on the front's event loop."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}

    def add(self, message: Control, on_progress: OnProgress | None = None) -> asyncio.Future[Any]:
        """A future of the answer. The caller calls ``forget`` when it no longer waits."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[message.op] = _Call(message, future, on_progress)
        return future

    def forget(self, op: int) -> None:
        self._calls.pop(op, None)

    @property
    def unanswered(self) -> list[Control]:
        """The messages to send again to the next engine."""
        return [call.message for call in self._calls.values()]

    def progressed(self, progress: Progress) -> None:
        call = self._calls.get(progress.op)
        if call is not None and call.on_progress is not None:
            call.on_progress(progress)

    def settle(self, op: int, outcome: Reply | RpcError) -> None:
        """Answer ``op`` with a reply or an error; does nothing if its caller no longer waits."""
        call = self._calls.pop(op, None)
        if call is None or call.future.done():  # its caller was cancelled meanwhile
            return
        if isinstance(outcome, RpcError):
            call.future.set_exception(outcome)
        else:
            call.future.set_result(outcome)

    def survive(self, loading: Collection[int], because: str, *, forced: bool = False) -> bool:
        """Fail the calls that end with the engine, which was working on the loads ``loading``.

        ``forced``: a signal from elsewhere ended it. Returns whether a load was given up for ending engines: that load
        will not end the next one.
        """
        found = False
        for op, call in list(self._calls.items()):
            if isinstance(call.message, QueryStats | QueryCache | ExportCache | ImportCache):
                # They are about the memory of the engine that is gone.
                self.settle(op, EngineLost(because))
            elif isinstance(call.message, Load) and op in loading:
                call.deaths += 1
                if call.deaths >= (_MOST_KILLS if forced else _MOST_DEATHS):
                    self.settle(op, LoadLost(f"engines were lost {call.deaths} times while loading it: {because}"))
                    found = True
        return found

    def fail(self, error: Callable[[], RpcError]) -> None:
        """Answer every call with its own ``error()``, because a raised error keeps the frames it went through."""
        for op in list(self._calls):
            self.settle(op, error())

"""A host that asks for many answers at once, and disturbs them while they come."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import count
from types import TracebackType
from typing import Any, Self

from .serving.request import ContenderFailed
from .serving.sidecar import Connection

Frame = dict[str, Any]
_CRITICAL = 32  # as many as run together


class FormsHost:
    """One sidecar, from ``async with`` to its end. ``options`` are those of ``mlx-sidecar serve``."""

    def __init__(self, *options: str) -> None:
        self.failed: str | None = None
        self._options = options
        self._connection = Connection(self._hear, self._lost)
        self._names = count(1)
        self._begun: dict[str, asyncio.Event] = {}

    async def __aenter__(self) -> Self:
        await self._connection.open(*self._options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def call(self, method: str, params: Frame) -> Frame:
        return await self._connection.call(method, params)

    async def together(self, params: list[Frame], disturbance: str) -> list[Frame]:
        """Ask for all answers at once; ``kill`` the engine, ``cancel`` half of them or ``preempt`` them meanwhile."""
        names = [str(next(self._names)) for _ in params]
        self._begun = {name: asyncio.Event() for name in names}
        pid = (await self.call("stats", {}))["engine"].get("pid")
        async with asyncio.TaskGroup() as group:
            answers = [
                group.create_task(self._answer({**own, "stream": name, "min_interval_ms": 50}))
                for own, name in zip(params, names, strict=True)
            ]
            if disturbance:
                await self._disturb(disturbance, names, pid, params[0]["model"], answers)
        return [answer.result() for answer in answers]

    async def _answer(self, params: Frame) -> Frame:
        """Return the result; of a request that was cancelled before it began, that it has no answer."""
        try:
            return await self.call("generate", params)
        except ContenderFailed as failed:
            if "'kind': 'cancelled'" not in str(failed):
                raise
            form = {"complete": False, "forced_tokens": 0, "masked_steps": 0}
            nothing = {"text": "", "tokens": [], "usage": {"completion_tokens": 0}}
            return {**nothing, "finish_reason": "cancelled", "response_format": form}

    async def _disturb(
        self, how: str, names: list[str], pid: int | None, model: str, answers: list[asyncio.Task[Frame]]
    ) -> None:
        begun = asyncio.ensure_future(self._begun[names[-1]].wait())
        await asyncio.wait([begun, answers[-1]], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if how == "kill" and pid is not None:
            os.kill(pid, signal.SIGKILL)
        elif how == "cancel":
            for name in names[::2]:
                self._connection.notify("stream/cancel", {"stream": name})
        elif how == "preempt":
            short = {"model": model, "prompt": "Count: one, two,", "max_tokens": 3, "priority": "critical"}
            await asyncio.gather(*(self.call("generate", short) for _ in range(_CRITICAL)))

    def _hear(self, frame: Frame, at_s: float) -> None:
        if frame.get("method") == "stream/delta" and (begun := self._begun.get(frame["params"]["stream"])) is not None:
            begun.set()

    def _lost(self, why: str) -> None:
        self.failed = why
        raise ContenderFailed(why)

"""Succession starts the next engine after one ended, as the restart policy says, until engines are given up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from mlx_sidecar_protocol import errors

from ...containment import CONTROL_FLOW
from .engine_status import EngineStatus
from .restart_policy import REST_S, Life, RestartPolicy

# Hosts see this name in `log` notifications, so it stays while files move.
log = logging.getLogger("mlx_sidecar.link.supervisor")


class Succession:
    """Replaces the engine of one supervisor, on the front's event loop; one engine at a time.

    ``start`` starts an engine and attaches to it. ``given_up`` is called when no further engine will be started
    before ``wake``.
    """

    def __init__(
        self, status: EngineStatus, start: Callable[[], Awaitable[None]], given_up: Callable[[], None]
    ) -> None:
        self._status = status
        self._start = start
        self._given_up = given_up
        self._policy = RestartPolicy()
        self._task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def replace(self, lose: Callable[[], Awaitable[Life | None]]) -> None:
        """Await ``lose``, which returns how useful the ended engine was, and start the next one.

        None means that no engine can serve as configured: none is started.
        """
        self._run(self._replace(lose))

    def wake(self, *, urgent: bool = False) -> None:
        """If engines were given up, try one more if it is ``urgent`` or ``REST_S`` have passed.

        Raises the reason why there is no engine if it is not time to try, if no engine can serve as configured, or if
        the front is leaving.
        """
        if self._status.state == "stopped":
            raise errors.ShuttingDown
        if self._status.state != "failed":
            return
        if self._status.refusal is not None or not (urgent or self._policy.may_try(time.monotonic())):
            raise self._status.error()
        self._status.starting()
        self._run(self._succeed(0.0))

    def _run(self, steps: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._guarded(steps))

    async def _guarded(self, steps: Coroutine[Any, Any, None]) -> None:
        """Give up if ``steps`` fail, because nothing awaits their task: without an engine, callers must hear of it."""
        try:
            await steps
        except CONTROL_FLOW:
            raise
        except BaseException as error:
            log.exception("the next engine could not be started")
            self._status.cannot_start(repr(error))
            self._policy.gave_up(time.monotonic())
            self._give_up()

    async def _replace(self, lose: Callable[[], Awaitable[Life | None]]) -> None:
        life = await lose()
        await self._succeed(None if life is None else self._policy.died(life, time.monotonic()))

    async def _succeed(self, delay_s: float | None) -> None:
        """Start the next engine after ``delay_s``, again until it starts; None gives up."""
        while delay_s is not None:
            await asyncio.sleep(delay_s)
            if self._status.state != "starting":
                self._status.starting()
            try:
                await self._start()
            except CONTROL_FLOW:
                raise
            except BaseException as error:  # noqa: BLE001 - most often for want of memory or descriptors: told
                self._status.cannot_start(str(error))
                log.error("the engine cannot be started: %s", error)
                self._status.enter("lost", self._status.reason)
                delay_s = self._policy.died(Life.USELESS, time.monotonic())
            else:
                return
        self._give_up()

    def _give_up(self) -> None:
        status = self._status
        if status.refusal is None:
            last = f"it ended {self._policy.in_a_row} times in a row, last: {status.reason}"
            status.reason = f"{last}; a load tries again, and so does any request after {REST_S:g} s"
        status.enter("failed", status.reason)
        self._given_up()

"""The supervisor keeps a sidecar running: it starts one, and another one when that has died."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from . import __version__
from .connection import Connection
from .errors import SidecarLost
from .protocol import PROTOCOL_VERSION
from .protocol.errors import RpcError
from .protocol.limits import Limits
from .protocol.operations import InitializeResult

log = logging.getLogger("mlx_sidecar")

_MOST_DEATHS = 5  # within _WITHIN_S, after which the sidecar is given up
_WITHIN_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


class Supervisor:
    """Owns the present connection.

    ``loads``, model to parameters, and ``adapters``, by model and name, are sent to each new process first.
    """

    def __init__(self, tasks: TaskGroup, start: Callable[[], Awaitable[Connection]], *, respawn: bool) -> None:
        self._tasks = tasks
        self._start = start
        self._respawn = respawn
        self._present: Connection | SidecarLost | None = None
        self._changed = anyio.Event()
        self._deaths: deque[float] = deque()
        self._closing = False
        self.loads: dict[str, dict[str, Any]] = {}
        self.adapters: dict[tuple[str, str], dict[str, Any]] = {}

    async def connection(self) -> Connection:
        """The present connection, or the next one. Raises ``SidecarLost`` if there will be none."""
        while self._present is None or (isinstance(self._present, Connection) and self._present.has_ended):
            await self._changed.wait()
        if isinstance(self._present, SidecarLost):
            raise self._present.anew()
        return self._present

    async def start(self) -> None:
        """Start the first process.

        Raises:
            OSError: It could not be started, or (``SidecarLost``) ended before its answer.
            RpcError: It refused ``initialize``.
        """
        first = await self._come_up()
        self._set(first)
        self._tasks.start_soon(self._watch, first)

    async def close(self) -> None:
        """End the process, and return when it is gone."""
        self._closing = True
        if isinstance(self._present, Connection):
            await self._present.close()
        self._set(SidecarLost("it was closed"))

    async def _watch(self, connection: Connection) -> None:
        """Replace each process that ends, until there were too many deaths, or unless ``respawn`` is off."""
        while True:
            lost = await connection.end()
            if self._closing:
                return
            log.warning("%s", lost)
            successor = await self._replace(lost) if self._respawn else None
            if successor is None:
                self._set(lost)
                return
            self._set(connection := successor)

    async def _replace(self, lost: SidecarLost) -> Connection | None:
        self._set(None)
        while not self._is_hopeless():
            await anyio.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (len(self._deaths) - 1)))
            try:
                return await self._come_up()
            except (OSError, RpcError) as error:
                log.warning("another sidecar did not come up: %s", error)
        return None

    def _is_hopeless(self) -> bool:
        """Count a death; returns whether there were too many."""
        now = anyio.current_time()
        while self._deaths and self._deaths[0] < now - _WITHIN_S:
            self._deaths.popleft()
        self._deaths.append(now)
        return len(self._deaths) > _MOST_DEATHS

    async def _come_up(self) -> Connection:
        connection = await self._start()
        self._tasks.start_soon(connection.run)
        try:
            await self._greet(connection)
        except BaseException:
            connection.kill()
            raise
        return connection

    async def _greet(self, connection: Connection) -> None:
        hello = {
            "protocol_version": PROTOCOL_VERSION,
            "client": {"name": "mlx-sidecar-client (Python)", "version": __version__},
            "process_id": os.getpid(),
        }
        answer = InitializeResult.model_validate(await connection.call("initialize", hello).answer(), extra="ignore")
        connection.limits = Limits(frame_bytes=answer.limits.frame_bytes, nesting=answer.limits.nesting)
        connection.initialized = answer
        connection.notify("initialized", {})
        for params in list(self.loads.values()):
            await self._again(connection, "load", params["model"], params)
        for params in list(self.adapters.values()):
            await self._again(connection, "adapter/load", params["adapter"], params)

    async def _again(self, connection: Connection, method: str, name: str, params: dict[str, Any]) -> None:
        try:
            await connection.call(method, params).answer()
        except RpcError as error:  # requests for it will hear of it
            log.warning("%s could not be loaded again: %s", name, error)

    def _set(self, present: Connection | SidecarLost | None) -> None:
        self._present = present
        self._changed.set()
        self._changed = anyio.Event()

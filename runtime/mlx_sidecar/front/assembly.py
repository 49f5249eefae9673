"""This module puts the front together: one core, and a connection for each host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import anyio

from ..config import Config
from ..observe import logs
from .connection import Connection
from .core import Core
from .supervision.engine_process import EngineProcess
from .supervision.supervisor import Spawn
from .wire.dispatcher import Method
from .wire.mailbox import Mailbox
from .wire.reader import Reader
from .wire.session import Session
from .wire.shutdown_triggers import on_signals, until_orphaned
from .wire.transport import Incoming, Outgoing
from .wire.writer import Writer

_WATCH_AGAIN_S = 0.5

log = logging.getLogger(__name__)


def run(config: Config, parent: int, reader: Reader, wire_out: int, engine: EngineProcess) -> int:
    """Serve until the host leaves; returns the exit status. No engine is left behind."""
    logs.to_stderr(config.log_level)
    # Not anyio.run, because it waits for threads at its end, and a download in one is not worth waiting for.
    return asyncio.new_event_loop().run_until_complete(_serve(config, parent, reader, wire_out, engine))


class Front:
    """A front for any number of hosts in one process; the engine and the text processes run while its block does."""

    def __init__(self, config: Config, engine: EngineProcess, start_engine: Spawn | None = None) -> None:
        """``engine`` is the first one; ``start_engine`` starts those that follow it, by default as processes."""
        self._config = config
        self._first_engine = engine
        self._core = Core(config, start_engine)

    async def __aenter__(self) -> Front:
        await self._core.engine.start(self._first_engine)
        if self._config.engine != "fake":
            self._core.texts.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._core.texts.stop()
        await self._core.engine.stop()

    def connect(
        self, reader: Incoming, open_writer: Callable[[Mailbox], Outgoing], extra: Iterable[Method[Any]] = ()
    ) -> Connection:
        """Make a connection, which is still to be run, that serves ``extra`` methods beside those of the contract.

        Bytes come from ``reader`` and go to the writer that ``open_writer`` makes.
        """
        return Connection(self._core, reader, open_writer, [*extra, *_fixtures(self._config)])


def _fixtures(config: Config) -> list[Method[Any]]:
    if not config.fixtures:
        return []
    from .wire.fixtures import Fixtures

    return Fixtures().methods()


async def _serve(config: Config, parent: int, reader: Reader, wire_out: int, engine: EngineProcess) -> int:
    front = Front(config, engine)
    connection = front.connect(reader, partial(Writer, wire_out))
    on_signals(connection.session.end)
    status = 1
    async with front, anyio.create_task_group() as tasks:
        tasks.start_soon(_leave_with_the_host, parent, connection.session)
        status = await connection.run()
        tasks.cancel_scope.cancel()
    return status


async def _leave_with_the_host(parent: int, session: Session) -> None:
    watched = False
    while not watched:
        try:
            await until_orphaned(parent, lambda: session.host_process_id)
            watched = True
        except OSError:  # for want of descriptors, most likely
            log.exception("the host cannot be watched now")
            await anyio.sleep(_WATCH_AGAIN_S)
    session.end(1, host_is_gone=True)

"""This module runs the front of one host: it opens the connection, and imports the rest while that is served."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio

from ..bare_import import uncollected
from ..config import Config
from ..observe.stderr import log_to_stderr
from .opening import Opening
from .supervision.engine_process import EngineProcess
from .wire.reader import Reader
from .wire.session import Session
from .wire.shutdown_triggers import on_signals, until_orphaned
from .wire.writer import Writer

if TYPE_CHECKING:
    from .assembly import Front

_WATCH_AGAIN_S = 0.5
_TURNS = 4  # of the loop, in which a session starts and handles what was read before it

log = logging.getLogger(__name__)


def run(config: Config, parent: int, reader: Reader, wire_out: int, engine: EngineProcess) -> int:
    """Serve until the host leaves; returns the exit status. No engine is left behind."""
    log_to_stderr(config.log_level, "mlx-sidecar: %(levelname)s: %(name)s: %(message)s")
    # Not anyio.run, because it waits for threads at its end, and a download in one is not worth waiting for.
    return asyncio.new_event_loop().run_until_complete(_serve(config, parent, reader, wire_out, engine))


async def _serve(config: Config, parent: int, reader: Reader, wire_out: int, engine: EngineProcess) -> int:
    instance = uuid4().hex
    opening = Opening(config, instance, reader, partial(Writer, wire_out))
    session = opening.session
    on_signals(session.end)
    running = asyncio.ensure_future(session.run())
    for _ in range(_TURNS):
        await anyio.sleep(0)
    status = 1
    # On a thread, because a host that pings meanwhile is to find us alive.
    front_class = await asyncio.to_thread(import_front)
    async with front_class(config, engine, instance=instance) as front, anyio.create_task_group() as tasks:
        tasks.start_soon(_leave_with_the_host, parent, session)
        status = await front.take_up(opening).run(running)
        tasks.cancel_scope.cancel()
    return status


def import_front() -> type[Front]:
    """Import all that is served."""
    with uncollected():
        from .assembly import Front
    return Front


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

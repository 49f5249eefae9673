"""``mlx-sidecar serve`` brings a front to life, step by step; the imports here are light on purpose."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from ..bare_import import uncollected, without_pydantic_plugins
from ..config import Config
from ..link.parent_death import signal_with_parent
from .supervision.engine_process import EngineProcess, spawn
from .supervision.private_folder import remove_own_folder
from .wire.reader import Reader
from .wire.stdio import claim, has_ended, somebody_reads


def serve(config: Config) -> NoReturn:
    """Serve the host on stdin and stdout, then leave the process."""
    parent = os.getppid()  # asked before anything that takes time: a parent that dies meanwhile is noticed
    wire_in, wire_out = claim()
    if has_ended(wire_in) and not somebody_reads(wire_out):
        os._exit(0)  # the host died before we were there
    reader = Reader(wire_in)
    reader.start()
    engine = spawn(config)  # it imports its backend while we import ours
    _leave_with(parent, engine)

    # Threads hand the interpreter over sooner: takes an eighth off the slowest round trips under load.
    sys.setswitchinterval(0.0005)
    run = _import_opening()
    status = run(config, parent, reader, wire_out, engine)
    remove_own_folder()
    if sys.stderr is not None:
        sys.stderr.flush()
    # Not sys.exit: the reader may sit in a read, a download in a thread, and neither is worth waiting for.
    os._exit(status)


def _import_opening() -> Callable[[Config, int, Reader, int, EngineProcess], int]:
    """Import what answers ``initialize``, which is most of the time to it, and return what runs the front."""
    without_pydantic_plugins()
    with uncollected():
        from .running import run
    return run


def _leave_with(parent: int, engine: EngineProcess) -> None:
    """While the rest is imported: leave as soon as the system tells that ``parent`` is gone. Then others watch."""

    def look(*_: object) -> None:
        if os.getppid() != parent:
            engine.kill()
            os._exit(1)

    signal.signal(signal.SIGURG, look)
    signal_with_parent(signal.SIGURG)
    look()

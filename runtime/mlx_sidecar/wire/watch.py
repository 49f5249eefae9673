"""Noticing that we should leave: signals, and the death of the process that started us."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import anyio

_EVERY_S = 0.5  # the promise is a second


def on_signals(leave: Callable[[int], None]) -> None:
    """Call ``leave`` in the running loop with the exit status, 128 + number, on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave, 128 + number)


async def until_orphaned(parent: int, host: Callable[[], int | None]) -> None:
    """Returns when we are no longer a child of ``parent`` or the process that ``host`` names, if any, is gone."""
    while os.getppid() == parent and _is_alive(host()):
        await anyio.sleep(_EVERY_S)


def _is_alive(pid: int | None) -> bool:
    if pid is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's process, or a number no process has here
        return True
    return True

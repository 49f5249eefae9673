"""The triggers to leave are noticed here: signals, and the death of the process that started us."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import anyio

from ...link.parent_death import signal_with_parent

_EVERY_S = 0.5  # the promise is a second


def on_signals(leave: Callable[[int], None]) -> None:
    """Call ``leave`` in the running loop with the exit status, 128 + number, on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave, 128 + number)


async def until_orphaned(parent: int, host: Callable[[], int | None]) -> None:
    """Returns when we are no longer a child of ``parent`` or the process that ``host`` names, if any, is gone.

    Both are looked up twice a second. Where the system tells of such a death itself, they are looked up at once.
    """
    stirred = asyncio.Event()
    has_ended: Callable[[], bool] | None = None
    with ExitStack() as watches:
        watches.enter_context(_on_end_of_parent(stirred.set))
        while os.getppid() == parent and not (has_ended and has_ended()):
            if has_ended is None and (named := host()) is not None:
                has_ended = watches.enter_context(_on_end_of(named, stirred.set))
                continue
            with anyio.move_on_after(_EVERY_S):
                await stirred.wait()
            stirred.clear()


@contextmanager
def _on_end_of_parent(call: Callable[[], None]) -> Iterator[None]:
    """Calls ``call``, as far as the system tells, when our parent may have ended."""
    # The system speaks of the thread that started us, and hosts start us from threads that end. So it is only a reason
    # to look, and the signal is one that does nothing without a handler.
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGURG, call)
    signal_with_parent(signal.SIGURG)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGURG)


@contextmanager
def _on_end_of(pid: int, call: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Yields a function: has ``pid`` ended? Calls ``call`` when it does, as far as the system tells."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        yield lambda: True
        return
    except (AttributeError, OSError, OverflowError):  # not a system that has these, or no more of them
        yield lambda: not _is_alive(pid)
        return
    loop = asyncio.get_running_loop()
    ended = False

    def on_end() -> None:
        nonlocal ended
        ended = True
        loop.remove_reader(handle)
        call()

    loop.add_reader(handle, on_end)
    try:
        # A process that was not waited for yet has ended too, which only the handle knows.
        yield lambda: ended
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's process, or a number no process has here
        return True
    return True

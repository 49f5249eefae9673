"""SIGTERM and SIGINT ask the gateway to end; from its first line to the end of its process neither of them kills it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

NUMBERS: Final = (signal.SIGTERM, signal.SIGINT)


class EndingSignals:
    """The signals that have come, in a count, each of which ``next`` returns for once.

    They are not the event loop's, which would give them back to the system, to be killed by, when it ends.
    """

    def __init__(self) -> None:
        self._waiting = 0  # signals for which ``next`` has not returned
        self._wake: Callable[[], object] | None = None

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch them in this block, and ignore them behind it. An exception leaves them as they were before.

        For the main thread alone, as all that handles signals in Python.
        """
        before = {number: signal.signal(number, self._hear) for number in NUMBERS}
        try:
            yield
        except BaseException:
            for number, handler in before.items():
                signal.signal(number, handler)
            raise
        # The interpreter, when it winds down, takes its own handlers away, and leaves what is ignored as it is.
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)

    async def next(self) -> None:
        """Return when another signal has come; at once for one that came before. One task at a time may wait."""
        if not self._waiting:
            loop, heard = asyncio.get_running_loop(), asyncio.Event()
            self._wake = lambda: loop.call_soon_threadsafe(heard.set)
            try:
                if not self._waiting:  # one may have come since
                    await heard.wait()
            finally:
                self._wake = None  # before the loop ends, behind which nothing can be called in it
        self._waiting -= 1

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self._waiting += 1
        if self._wake is not None:
            self._wake()

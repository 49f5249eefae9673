"""How long threads of a process had work and no processor: what the machine makes late is not the process's doing.

One that waits may hold Python's lock, so all of them count.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_EVERY_S = 0.01


class Waits:
    """From ``async with`` to its end. Only Linux tells; elsewhere nothing is late for want of a processor.

    ``pid`` is asked for the process at the beginning.
    """

    def __init__(self, pid: Callable[[], int]) -> None:
        self._pid = pid
        self._at_s: list[float] = []
        self._waited_s: list[float] = []

    async def __aenter__(self) -> Waits:
        self._looking = asyncio.create_task(self._look(Path(f"/proc/{self._pid()}/task")))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()

    def between_s(self, begin_s: float, end_s: float) -> float:
        """Seconds of waiting in that time on the monotonic clock, and in a hundredth of a second around it."""
        if not self._at_s:
            return 0.0
        first = max(bisect_right(self._at_s, begin_s) - 1, 0)
        last = min(bisect_left(self._at_s, end_s), len(self._at_s) - 1)
        return self._waited_s[last] - self._waited_s[first]

    async def _look(self, threads: Path) -> None:
        loop = asyncio.get_running_loop()
        waited: dict[str, float] = {}  # of threads that have ended too
        while threads.exists():
            for thread in threads.iterdir():
                with suppress(OSError):  # it has just ended
                    # Processor time, and time of waiting for it, both in nanoseconds.
                    waited[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
            self._at_s.append(loop.time())
            self._waited_s.append(sum(waited.values()))
            await asyncio.sleep(_EVERY_S)

"""How long threads of a process had work and no processor, because a busy machine's lateness is not the process's.

All threads count, because one that waits may hold Python's lock.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_EVERY_S = 0.01


class Waits:
    """The waiting of a process from ``async with`` to its end. Only Linux tells; elsewhere it is zero.

    ``pid`` returns the process, and is called at the beginning.
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
        """Seconds of waiting in that time on the monotonic clock, and in 10 ms around it."""
        if not self._at_s:
            return 0.0
        first = max(bisect_right(self._at_s, begin_s) - 1, 0)
        last = min(bisect_left(self._at_s, end_s), len(self._at_s) - 1)
        return self._waited_s[last] - self._waited_s[first]

    async def _look(self, threads: Path) -> None:
        loop = asyncio.get_running_loop()
        waited: dict[str, float] = {}  # also of threads that have ended
        while threads.exists():
            for thread in threads.iterdir():
                with suppress(OSError):  # it has just ended
                    # Processor time, and time of waiting for it, both in nanoseconds.
                    waited[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
            self._at_s.append(loop.time())
            self._waited_s.append(sum(waited.values()))
            await asyncio.sleep(_EVERY_S)

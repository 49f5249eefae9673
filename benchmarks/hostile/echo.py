"""How late the machine lets any process answer: pings to one that does nothing but answer, beside the sidecar's."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from typing import Any

from ..serving.processes import LineProcess

_EVERY_S = 0.02
_ANSWER = "import sys\nfor line in sys.stdin.buffer: sys.stdout.buffer.write(line); sys.stdout.buffer.flush()"


class Echo:
    """From ``async with`` to its end; ``spans_s`` has the begin and the end of each ping, on the monotonic clock."""

    def __init__(self) -> None:
        self.spans_s: list[tuple[float, float]] = []
        self._process = LineProcess(self._hear, lambda _: None)

    async def __aenter__(self) -> Echo:
        await self._process.start(sys.executable, "-I", "-S", "-c", _ANSWER)
        self._pinging = asyncio.create_task(self._ping())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pinging.cancel()
        await self._process.stop()

    def longest_s(self, begin_s: float, end_s: float) -> float:
        """What the slowest ping took of those that were on their way between the two."""
        took = (end - begin for begin, end in self.spans_s if begin < end_s and end > begin_s)
        return max(took, default=0.0)

    def _hear(self, frame: dict[str, Any], at_s: float) -> None:
        self.spans_s.append((frame["at_s"], at_s))

    async def _ping(self) -> None:
        for _ in itertools.count():
            self._process.send({"at_s": time.monotonic()})
            await asyncio.sleep(_EVERY_S)

"""A host stops reading for a while, under load, while the engine is killed, and no text is lost.

The front grows by no more than a bound; once the host reads again, everything arrives in order.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from pathlib import Path

from ..measure import Row
from ..serving.models import make
from .host import Host, within
from .kills import undisturbed
from .numerics import numerics, other_texts
from .report import Outcome, Report
from .traffic import Traffic, differing, under_load

_MORE_BYTES = 16 * 2**20  # growth of the front while the host does not read


class _Stall:
    """Stops reading ``times`` times; ``grown_bytes`` has the growth of the front by the end of each."""

    def __init__(self, host: Host, times: int, stall_s: float, pick: random.Random) -> None:
        self.grown_bytes: list[int] = []
        self._host = host
        self._times = times
        self._stall_s = stall_s
        self._pick = pick

    async def run(self) -> None:
        for _ in range(self._times):
            await asyncio.sleep(self._pick.uniform(0, 1))
            before = self._host.front.memory_info().rss
            self._host.read(False)
            await self._kills()
            self.grown_bytes.append(self._host.front.memory_info().rss - before)
            self._host.read(True)
            await within("ping", self._host.call("ping", {}))

    async def _kills(self) -> None:
        """Kill two engines while the host does not read; they are found by their processes."""
        for _ in range(2):
            await asyncio.sleep(self._pick.uniform(0, self._stall_s / 2))
            if (pid := self._host.engine_pid()) is not None:
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(self._stall_s / 2)


def run(seed: int, quick: bool) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(seed, quick, Path(folder)))


async def _run(seed: int, quick: bool, folder: Path) -> Report:
    model = "pocket" if quick else str(make("1M", folder))
    streams, times, stall_s = (8, 1, 2.0) if quick else (32, 5, 6.0)
    traffic = Traffic(seed, model, longest=60 if quick else 300)
    async with Host(*numerics()) as host:
        host.promises.reads_late = True
        await host.call("load", {"model": model})
        stall = _Stall(host, times, stall_s, random.Random(seed))
        answers = await under_load(host, traffic, streams, stall.run())
    differ = differing(answers, await undisturbed(traffic, answers, streams, *numerics()))
    broken = host.promises.broken + other_texts(differ, traffic)
    most = max(stall.grown_bytes)
    broken += [f"the front grew by {most / 2**20:.0f} MiB while nobody read"] * (most > _MORE_BYTES)
    fault = f"reads nothing for {stall_s:g} s and more, two kills meanwhile"
    kept = len(answers) - len(host.promises.at_fault)
    asked = len(answers) + len(host.promises.unanswered)
    words = f"{host.promises.interruptions} interruptions told when it read again"
    outcome = Outcome(fault, times, streams, kept, asked, len(differ), words)
    grown = Row(
        "the front grew while nobody read, at most", f"{most / 2**20:.1f} MiB", f"{_MORE_BYTES / 2**20:.0f} MiB"
    )
    return Report([grown], broken, (outcome,))

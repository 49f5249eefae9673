"""One sidecar, an innocent host, and mutated directories, several at once, each of which must be answered."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import psutil

from ..faults.host import Host, Pings, State, Stuck, state_faults
from ..serving.request import ContenderFailed
from .directory import Trial
from .innocent import Innocent
from .trial import Told, tried
from .waits import Waits

AT_ONCE = 4
PING_S = 0.25
_LOST = re.compile(r"text process was lost: (.*)")
_SHM = Path("/dev/shm")  # memory, where the system has such a thing


@dataclass
class Siege:
    """Observations of a sidecar; ``broken`` has broken promises, each with the trials that ran by then."""

    told: list[Told] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0
    pings_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)  # seconds of late pings, without the wait for a processor
    streams: int = 0
    longest_text_s: float = 0.0
    texts_lost: Counter[str] = field(default_factory=Counter)  # by reason
    engines_lost: int = 0
    restarts: int = 0
    front_lost: bool = False
    front_grown_bytes: int = 0
    shown: TextIO | None = None  # where broken promises are written at once
    _began_s: float = 0.0
    _open: set[int] = field(default_factory=set)

    async def run(self, trials: Iterator[Trial], seconds: float) -> None:
        """Run all of ``trials``, or those that begin within ``seconds``."""
        began = time.monotonic()
        host = Host("--numerics", "exact")
        waits = Waits(lambda: host.front.pid)
        try:
            async with host, waits:
                await self._beside(host, trials, began + seconds)
        except (ContenderFailed, Stuck, psutil.NoSuchProcess) as gone:
            self.front_lost = True
            self._broke(f"the front is gone: {gone}; {self._beside_what()}")
        self.seconds = time.monotonic() - began
        self._read_pings(host.pings, waits)
        self.texts_lost.update(_LOST.findall("\n".join(line["message"] for line in host.logged)))
        self.broken += host.promises.broken + state_faults(host.states)
        self.broken += [f"logged: {line['message'][-600:]}" for line in host.logged if "Traceback" in line["message"]]

    def _read_pings(self, pings: Pings, waits: Waits) -> None:
        sent = zip(pings.at_s, pings.sidecars_s, strict=True)
        beside = [(at, took) for at, took in sent if at >= self._began_s]
        self.pings_s = [took for _, took in beside]
        late = [(at, took) for at, took in beside if took > PING_S]
        self.late_s = [max(0.0, took - waits.between_s(at, at + took)) for at, took in late]

    async def _beside(self, host: Host, trials: Iterator[Trial], until_s: float) -> None:
        await host.call("load", {"model": "pocket", "pin": True})
        await host.call("stats", {})  # the first one imports modules
        async with Innocent(host, tokens=48) as innocent:
            before, self._began_s = host.front.memory_info().rss, time.monotonic()
            watch = asyncio.create_task(self._watch(host.states))
            with tempfile.TemporaryDirectory(dir=_SHM if _SHM.is_dir() else None, prefix="hostile-") as folder:
                attackers = (self._attack(host, trials, until_s, Path(folder)) for _ in range(AT_ONCE))
                await asyncio.gather(*attackers)
            watch.cancel()
            self.front_grown_bytes = host.front.memory_info().rss - before
            self.restarts = (await host.call("stats", {}))["health"]["restarts"]
        self.streams, self.longest_text_s = innocent.streams, innocent.longest_text_s
        self.broken += innocent.differing
        self._count(host.states)

    async def _attack(self, host: Host, trials: Iterator[Trial], until_s: float, temporary: Path) -> None:
        for trial in trials:
            if time.monotonic() > until_s:
                return
            folder = temporary / f"m{trial.number}"
            self._open.add(trial.number)
            try:
                await asyncio.to_thread(trial.make, folder)
                told = await tried(host, trial, folder)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            self._open.discard(trial.number)
            self.told.append(told)
            for line in told.broken:
                self._broke(f"{_named(trial)}: {line}")

    async def _watch(self, states: Sequence[State]) -> None:
        """Note beside which trials an engine is lost."""
        seen = len(states)
        with suppress(asyncio.CancelledError):
            while True:
                for state in states[seen:]:
                    if state.name in ("lost", "failed"):
                        self._broke(f"engine {state.name}: {state.because}; {self._beside_what()}")
                seen = len(states)
                await asyncio.sleep(0.005)

    def _count(self, states: Sequence[State]) -> None:
        self.engines_lost = sum(state.name == "lost" for state in states)

    def _broke(self, what: str) -> None:
        self.broken.append(what)
        if self.shown is not None:
            print(what[:1000], file=self.shown, flush=True)

    def _beside_what(self) -> str:
        return f"beside trials {sorted(self._open)}"


def _named(trial: Trial) -> str:
    return f"--seed {trial.seed} --trial {trial.number} ({trial.kind})"

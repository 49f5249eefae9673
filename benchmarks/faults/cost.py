"""The price of survival on the happy path, in tokens/s of many streams at once.

The sidecar as it is takes turns with the same code without the work that lets streams outlive their engine: the
engine's heartbeat, the front's looks at it, the count of the journal's bytes, and the list of suspects of a death,
kept at each token. Prompts and tokens are kept in both, because answers are made of them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import psutil

from ..measure import Row
from ..serving.figures import Ratio, ratio
from ..serving.load import burst
from ..serving.models import Prompts, make
from ..serving.sidecar import SERVE, Connection, Sidecar
from . import bare
from .report import Report

_BARE = (sys.executable, "-P", bare.__file__, *SERVE[SERVE.index("serve") :])
_PROMPT = 64  # tokens
_SHARE = 0.98


class _Bare(Sidecar):
    name = "without"

    def __init__(self, model: Path | str) -> None:
        super().__init__(model)
        self.connection = Connection(self._hear, self._fail_all, _BARE)


def run(seed: int, quick: bool) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(seed, quick, Path(folder)))


async def _run(seed: int, quick: bool, folder: Path) -> Report:
    forms = [("1M", 96), ("16M", 48)] if not quick else [("1M", 8)]
    streams, rounds = (8, 1) if quick else (32, 15)
    rows, broken = [], []
    for size, answer in forms:
        speed, work = await _compared(make(size, folder), Prompts(seed), streams, answer, rounds)
        slow = not quick and speed.ratio < _SHARE
        what = f"{size}, {streams} streams, medians of {rounds}"
        figure = f"{speed.ours:,.0f} tokens/s, {speed} of those without" + " BROKEN" * slow
        rows.append(Row(what, figure, f"at least {_SHARE}×"))
        rows.append(Row("the same, processor time for a token", f"{work.ours * 1e6:,.0f} µs, {work}"))
        broken += [f"{size}: {speed} of the tokens/s without"] * slow
    return Report(rows, broken)


async def _compared(model: Path, prompts: Prompts, streams: int, answer: int, rounds: int) -> tuple[Ratio, Ratio]:
    """Tokens a second and processor seconds a token, with and without that work."""
    async with Sidecar(model) as ours, _Bare(model) as peer:
        speeds: dict[Sidecar, list[float]] = {ours: [], peer: []}
        works: dict[Sidecar, list[float]] = {ours: [], peer: []}
        processes = {ours: await _processes(ours), peer: await _processes(peer)}
        for number in range(-1, rounds):
            requests = [prompts.request(_PROMPT, answer) for _ in range(streams)]
            for sidecar in (ours, peer) if number % 2 else (peer, ours):
                before_s = _worked_s(processes[sidecar])
                run = await burst(sidecar, requests)
                if number >= 0:  # the first is to warm up
                    speeds[sidecar].append(run.tokens_per_s)
                    works[sidecar].append((_worked_s(processes[sidecar]) - before_s) / run.tokens)
    return ratio(speeds[ours], speeds[peer]), ratio(works[ours], works[peer])


async def _processes(sidecar: Sidecar) -> list[psutil.Process]:
    engine = (await sidecar.connection.call("stats", {}))["engine"]["pid"]
    return [psutil.Process(sidecar.connection.pid), psutil.Process(engine)]


def _worked_s(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)

"""Full disks: for the trace, for logs, for temporary files, and one that fills while it is written to.

Under each the engine is killed once in the middle of its answers, and the answers are those of an undisturbed sidecar.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..serving.request import ContenderFailed
from ..serving.sidecar import SERVE
from .host import Host, Stuck, within
from .numerics import numerics, other_texts
from .report import Outcome, Report
from .traffic import Traffic, answers_to, differing, under_load

_FULL = Path("/dev/full")  # where the system has one
_STREAMS = 8


@dataclass(frozen=True)
class Trouble:
    """A sidecar that is started by ``command`` with ``options``."""

    fault: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()


def _troubles(folder: Path) -> list[Trouble]:
    loud = ("--log-level", "debug")
    trace = str(folder / "trace.json")
    troubles = [
        # In blocks of 512 or 1024 bytes, as the shell counts them.
        Trouble("no file may grow beyond 16 blocks", _shell("ulimit -f 16"), ("--trace", trace, *loud)),
        Trouble("`TMPDIR` is no directory", ("env", f"TMPDIR={folder / 'none'}", *SERVE)),
    ]
    if _FULL.exists():
        troubles += [
            Trouble("time line on a full disk", SERVE, ("--trace", str(_FULL))),
            Trouble("stderr on a full disk", _shell(f"exec 2>{_FULL}"), loud),
        ]
    return troubles


def _shell(first: str) -> tuple[str, ...]:
    return ("sh", "-c", f'{first}; exec "$@"', "sh", *SERVE)


def run(seed: int, quick: bool) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(seed, Path(folder), longest=60 if quick else 200))


async def _run(seed: int, folder: Path, longest: int) -> Report:
    outcomes, broken = [], []
    for trouble in _troubles(folder):
        try:
            outcome, faults = await _under(trouble, Traffic(seed, "pocket", longest))
        except (ContenderFailed, Stuck) as failure:  # the others may do
            broken.append(f"{trouble.fault}: {failure}")
            continue
        outcomes.append(outcome)
        broken += [f"{trouble.fault}: {fault}" for fault in faults]
    return Report([], broken, tuple(outcomes))


async def _under(trouble: Trouble, traffic: Traffic) -> tuple[Outcome, list[str]]:
    async with Host(*numerics(), *trouble.options, command=trouble.command) as host:
        await host.call("load", {"model": "pocket"})
        answers = await under_load(host, traffic, _STREAMS, _one_kill(host))
    async with Host(*numerics()) as other:
        differ = differing(answers, await answers_to(other, traffic, answers, _STREAMS))
    faults = host.promises.broken + other_texts(differ, traffic)
    asked, words = len(answers) + len(host.promises.unanswered), "answers go on, over the death of an engine too"
    kept = len(answers) - len(host.promises.at_fault)
    return Outcome(trouble.fault, 1, _STREAMS, kept, asked, len(differ), words), faults


async def _one_kill(host: Host) -> None:
    ready = await host.entered("ready")
    await within("delta", host.next_delta())
    assert ready.pid is not None
    os.kill(ready.pid, signal.SIGKILL)
    await host.entered("ready", len(host.states))

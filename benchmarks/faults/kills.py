"""SIGKILL of the engine at random moments, with as many streams open as a batch holds.

Every third kill comes while the engine starts or loads again. Requests are greedy and seeded, streamed and not, with
stop strings, log probabilities and windows. Under exact numerics the texts are those of an undisturbed run; under fast
ones, the only ones that GPUs have, the last bit may differ, and the run counts the texts that do. A ping every 20 ms
shows whether the front works, from the answer to ``initialize`` on, while it imports what it serves as well.
"""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..measure import Row
from ..promises import Frame
from ..serving.figures import percentile
from ..serving.models import make
from .blows import Blows, strike
from .host import Host, Pings, state_faults
from .numerics import allows_exact
from .report import Outcome, Report
from .traffic import Traffic, answers_to, differing, under_load

PING_S = 0.05


@dataclass
class Struck:
    """A run under blows: the host, gone by now, the blows, and the answers by request."""

    host: Host
    blows: Blows
    answers: dict[int, Frame]

    @property
    def broken(self) -> list[str]:
        return self.host.promises.broken + state_faults(self.host.states)

    @property
    def asked(self) -> int:
        return len(self.answers) + len(self.host.promises.unanswered)

    @property
    def kept(self) -> int:
        """Requests that were answered as promised."""
        return len(self.answers) - len(self.host.promises.at_fault)


def run(seed: int, quick: bool) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(seed, quick, Path(folder)))


async def _run(seed: int, quick: bool, folder: Path) -> Report:
    model = "pocket" if quick else str(make("1M", folder))
    streams, times = (8, 4) if quick else (32, 100)
    rows: list[Row] = []
    broken: list[str] = []
    outcomes = []
    kinds = ("exact", "fast") if allows_exact() else ("fast",)
    for numerics in kinds[:1] if quick else kinds:
        traffic = Traffic(seed, model, longest=60 if quick else 300)
        options = ("--numerics", numerics)
        struck = await struck_by([signal.SIGKILL] * times, traffic, streams, seed, *options)
        differ = differing(struck.answers, await undisturbed(traffic, struck.answers, streams, *options))
        broken += [f"{numerics}: {line}" for line in struck.broken]
        if numerics == "exact":
            broken += [f"exact: request {n} has another text than undisturbed: {traffic[n]}" for n in differ]
        outcomes.append(_outcome(numerics, struck, streams, len(differ)))
        rows += _rows(numerics, struck)
    if not quick:  # on a machine that tests share, a late ping says nothing
        broken += [f"{row.what}: {row.figure}, asked {row.asked}" for row in rows if "BROKEN" in row.figure]
    return Report(rows, broken, tuple(outcomes))


async def struck_by(signals: list[signal.Signals], traffic: Traffic, streams: int, seed: int, *options: str) -> Struck:
    """Send ``signals`` one after the other to the engines of a sidecar with ``streams`` requests open at all times."""
    found: list[Blows] = []
    async with Host(*options) as host:
        await host.call("load", {"model": traffic[0]["model"]})

        async def disturb() -> None:
            found.append(await strike(host, signals, random.Random(seed)))

        answers = await under_load(host, traffic, streams, disturb())
    return Struck(host, found[0], answers)


async def undisturbed(traffic: Traffic, wanted: dict[int, Frame], streams: int, *options: str) -> dict[int, Frame]:
    """Return the answers of an undisturbed engine to the same requests."""
    async with Host(*options) as host:
        return await answers_to(host, traffic, wanted, streams)


def _outcome(numerics: str, struck: Struck, streams: int, differ: int) -> Outcome:
    host, blows = struck.host, struck.blows
    words = f"{host.promises.interruptions:,} interruptions told, {blows.while_starting} kills in the middle of a start"
    fault, times = f"SIGKILL, `--numerics {numerics}`", len(blows.noticed_s)
    return Outcome(fault, times, streams, struck.kept, struck.asked, differ, words)


def _rows(numerics: str, struck: Struck) -> list[Row]:
    replaced = struck.blows.replaced_s
    return [
        Row(f"{numerics}: tokens generated", f"{struck.host.promises.tokens:,}"),
        Row(
            f"{numerics}: told of the loss until told that an engine is ready",
            f"median {statistics.median(replaced):.2f} s, longest {max(replaced):.2f} s",
        ),
        pings_row(numerics, struck.host.pings),
    ]


def pings_row(what: str, pings: Pings) -> Row:
    """Make a row of how long pings took for the host, and of the longest without the host's own lateness."""
    took, longest_s = pings.took_s, max(pings.sidecars_s)
    figure = f"p50 {percentile(took, 50) * 1e3:.1f} ms, p99 {percentile(took, 99) * 1e3:.1f} ms"
    figure += f", longest {max(took) * 1e3:.0f} ms of {len(took):,}"
    figure += f"; {longest_s * 1e3:.0f} ms without what the host itself was late"
    return Row(f"{what}: answers to ping", figure + " BROKEN" * (longest_s > PING_S), f"{PING_S * 1e3:.0f} ms")

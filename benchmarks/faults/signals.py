"""SIGABRT, SIGSEGV, SIGSTOP and SIGKILL of the engine at random moments under random load.

The load has priorities, deadlines and cancels. A stopped engine hangs: it is taken for hung after `--stall-after-s 1`,
or after six times that while no operation of its kind has been measured. It is not stopped while it starts, because the
bound of a start is two minutes.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import tempfile
from pathlib import Path

from ..measure import Row
from ..serving.models import make
from .kills import Struck, struck_by, undisturbed
from .numerics import numerics, other_texts
from .report import Outcome, Report
from .traffic import Traffic, differing

_STALL_S = 1.0
# The bound of engine/heartbeat.py before a measurement; a look each eighth of it, and a second for a busy host.
_LONGEST_S = 6 * _STALL_S + _STALL_S / 8 + 1.0
_SIGNALS = [signal.SIGABRT, signal.SIGSEGV, signal.SIGSTOP, signal.SIGKILL]


def run(seed: int, quick: bool) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(seed, quick, Path(folder)))


async def _run(seed: int, quick: bool, folder: Path) -> Report:
    options = (*numerics(), "--stall-after-s", str(_STALL_S))
    model = "pocket" if quick else str(make("1M", folder))
    streams, rounds = (8, 1) if quick else (24, 9)
    rows: list[Row] = []
    broken: list[str] = []
    outcomes = []
    for number in _SIGNALS:
        traffic = Traffic(seed + number, model, longest=60 if quick else 160, wild=True)
        struck = await struck_by([number] * rounds, traffic, streams, seed, *options)
        differ = differing(struck.answers, await undisturbed(traffic, struck.answers, streams, *options))
        broken += [f"{number.name}: {line}" for line in struck.broken]
        broken += [f"{number.name}: {line}" for line in other_texts(differ, traffic)]
        if number == signal.SIGSTOP and not quick:  # on a machine that tests share, a late notice says nothing
            broken += [f"{number.name}: {line}" for line in _late(struck)]
        outcomes.append(_outcome(number, struck, streams, len(differ)))
        rows.append(_row(number, struck))
    return Report(rows, broken, tuple(outcomes))


def _late(struck: Struck) -> list[str]:
    return [f"noticed after {late_s:.1f} s" for late_s in struck.blows.noticed_s if late_s > _LONGEST_S]


def _outcome(number: signal.Signals, struck: Struck, streams: int, differ: int) -> Outcome:
    endings = ", ".join(f"{reason} {count:,}" for reason, count in struck.host.promises.endings.most_common())
    return Outcome(number.name, len(struck.blows.noticed_s), streams, struck.kept, struck.asked, differ, endings)


def _row(number: signal.Signals, struck: Struck) -> Row:
    noticed, replaced = struck.blows.noticed_s, struck.blows.replaced_s
    figure = f"noticed after {statistics.median(noticed):.2f} s, at most {max(noticed):.2f} s; "
    figure += f"the next ready {statistics.median(replaced):.2f} s later, at most {max(replaced):.2f} s"
    asked = f"noticed in {_STALL_S:g} s, unmeasured in {6 * _STALL_S:g} s" if number == signal.SIGSTOP else ""
    return Row(f"{number.name}, medians", figure, asked)

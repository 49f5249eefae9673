"""Hosts are killed at random moments, and each time front and engine must be gone within a second.

The sidecar starts or works; its engine runs, hangs, is stopped or is being started again. Hosts started it from a
thread, became daemons, or left their pipe ends to others. Temporary files must be gone too. Every tenth sidecar has the
real engine.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..measure import Row
from .mortal import Mortal, Plan, Until
from .report import Report

HOSTS, QUICK_HOSTS = 200, 6
WITHIN_S = 1.0
_PATIENCE_S = 10.0  # for processes that are left after WITHIN_S
_LOOK_EVERY_S = 0.01
_OURS = {"mlx"}  # where mlx keeps compiled kernels for its next start

EngineState = Literal["runs", "hangs", "is stopped", "is started again"]


@dataclass(frozen=True)
class Death:
    """One host's plan, the state of its engine, and how long the host then waits for its end."""

    plan: Plan
    engine: EngineState
    after_s: float


@dataclass(frozen=True)
class Outcome:
    """How long front and engine lived on; how many processes were left after a second; files that stayed."""

    took_s: float
    left: int
    files: list[str]


def run(seed: int, quick: bool) -> Report:
    source = random.Random(seed)
    outcomes: list[tuple[Death, Outcome]] = []
    for number in range(QUICK_HOSTS if quick else HOSTS):
        death = planned(source, "mlx" if number % 10 == 0 else "fake")
        outcomes.append((death, die(death)))
    return Report(_rows(outcomes), broken(outcomes))


def planned(source: random.Random, engine: Literal["fake", "mlx"]) -> Death:
    """Plan a random death. The fake engine gets all plans that the real one cannot follow."""
    # The front cannot notice the death of a host that it has not looked up yet and whose pipes stay open: see
    # docs/protocol.md. So pipes are leaked once the front has written something.
    until: Until = source.choice(("spawned", "ready", "streaming", "streaming"))
    states: list[EngineState] = ["runs"] if until == "spawned" else ["runs", "is stopped", "is started again"]
    if engine == "fake" and until == "streaming":
        states.append("hangs")
    state = source.choice(states)
    model = "pocket" if engine == "mlx" else "fake?tokens=100000&delay_ms=5"
    plan = Plan(
        engine=engine,
        until=until,
        model="fake?tokens=1000&hang_after=3" if state == "hangs" else model,
        in_thread=source.random() < 0.5,
        as_daemon=source.random() < 0.3,
        leaks=until != "spawned" and source.random() < 0.4,
        reads=source.random() < 0.7,
    )
    # A start takes some tenths of a second, that of the real engine a second and a half.
    most_s = (2.0 if engine == "mlx" else 0.5) if until == "spawned" or state == "is started again" else 0.05
    return Death(plan, state, source.uniform(0, most_s))


def die(death: Death) -> Outcome:
    """Let a host follow its plan, kill it, and return how its sidecar ended."""
    with tempfile.TemporaryDirectory() as folder, Mortal(death.plan, Path(folder)) as mortal:
        if death.engine == "is stopped":
            mortal.engine().suspend()
        elif death.engine == "is started again":
            mortal.engine().kill()
        time.sleep(death.after_s)
        mortal.host.kill()
        took_s, left = _gone(mortal)
        files = sorted(path.name for path in Path(folder).iterdir() if path.name not in _OURS)
    return Outcome(took_s, left, files)


def _gone(mortal: Mortal) -> tuple[float, int]:
    """Return the seconds until no process was alive, and how many were left after ``WITHIN_S``."""
    began = time.monotonic()
    left = 0
    while running := mortal.sidecar():
        passed_s = time.monotonic() - began
        if passed_s > WITHIN_S and not left:
            left = len(running)
        if passed_s > _PATIENCE_S:
            break
        time.sleep(_LOOK_EVERY_S)
    return time.monotonic() - began, left


def broken(outcomes: Iterable[tuple[Death, Outcome]]) -> list[str]:
    """Say in words which processes and files were left behind, and by which death."""
    lines = []
    for death, outcome in outcomes:
        if outcome.left:
            lines.append(
                f"{outcome.left} processes left after {WITHIN_S:g} s, gone after {outcome.took_s:.1f} s: {death}"
            )
        if outcome.files:
            lines.append(f"files left behind: {', '.join(outcome.files)}: {death}")
    return lines


def _rows(outcomes: list[tuple[Death, Outcome]]) -> list[Row]:
    took_s = [outcome.took_s for _, outcome in outcomes]
    counts = Counter(f"{death.plan.until}, engine {death.engine}" for death, _ in outcomes)
    kinds = {
        "real engine": sum(death.plan.engine == "mlx" for death, _ in outcomes),
        "started from a thread": sum(death.plan.in_thread for death, _ in outcomes),
        "daemons": sum(death.plan.as_daemon for death, _ in outcomes),
        "pipe ends leaked": sum(death.plan.leaks for death, _ in outcomes),
        **dict(sorted(counts.items())),
    }
    return [
        Row("hosts killed", f"{len(outcomes)}", f"{HOSTS}"),
        Row("of which", ", ".join(f"{name} {count}" for name, count in kinds.items())),
        Row(f"processes left after {WITHIN_S:g} s", f"{sum(outcome.left for _, outcome in outcomes)}", "0"),
        Row("temporary files left", f"{sum(len(outcome.files) for _, outcome in outcomes)}", "0"),
        Row("from the kill to the end of the last process, median", f"{statistics.median(took_s):.2f} s"),
        Row("the same, worst", f"{max(took_s):.2f} s", f"{WITHIN_S:g} s"),
    ]

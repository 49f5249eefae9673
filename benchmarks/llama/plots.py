"""Pictures of speed against depth, rows and threads."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from pathlib import Path

from ..serving.plots import apart, figure
from .groups import Group
from .samples import Key, Phase, Samples

_COLOURS = {"ours before": "#a8a29e", "ours": "#c2410c", "llama.cpp Q4_0": "#6b21a8", "llama.cpp": "#c084fc"}
_TWO_THREADS = re.compile(r"(.*), 2 threads$")

Curves = Mapping[str, Mapping[int, float]]


def draw(name: str, group: Group, samples: Samples, folder: Path) -> None:
    """Draw what a group has a picture of: ``llama-NAME-PHASE.svg``."""
    phases: tuple[Phase, ...] = ("prefill", "decode")
    for phase in phases:
        path = folder / f"llama-{name}-{phase}.svg"
        if group.axis and (phase == "prefill" or any(work.steps for work in group.works.values())):
            lines(
                {each: curve for each, curve in by_axis(name, group, samples, phase).items() if curve}, group.axis, path
            )
        elif name == "threads":
            lines(by_threads(name, group, samples, phase), "threads", path)


def by_axis(name: str, group: Group, samples: Samples, phase: Phase) -> Curves:
    """Contender → the work's name as a number → tokens/s."""
    return {
        contender.name: {
            int(work): statistics.median(speeds)
            for work in group.works
            if (speeds := samples.speeds(Key(name, work, phase), contender.name))
        }
        for contender in group.contenders
    }


def by_threads(name: str, group: Group, samples: Samples, phase: Phase) -> Curves:
    """Contender → threads → tokens/s, from the work that shows ``phase``."""
    curves: dict[str, dict[int, float]] = {}
    work = next(work for work, each in group.works.items() if (each.steps > 0) == (phase == "decode"))
    for contender in group.contenders:
        two = _TWO_THREADS.match(contender.name)
        if speeds := samples.speeds(Key(name, work, phase), contender.name):
            curves.setdefault(two[1] if two else contender.name, {})[2 if two else 1] = statistics.median(speeds)
    return {each: dict(sorted(curve.items())) for each, curve in curves.items()}


def lines(curves: Curves, axis: str, path: Path) -> None:
    """A line for each contender, with its name at the right end."""
    if not curves:
        return
    with figure(path) as axes:
        axes.set_xscale("log", base=2)
        ends = apart({name: list(curve.values())[-1] for name, curve in curves.items()})
        for name, curve in curves.items():
            colour = next((colour for start, colour in _COLOURS.items() if name.startswith(start)), "#1d4ed8")
            axes.plot(list(curve), list(curve.values()), color=colour, marker="o", markersize=4)
            axes.annotate(name, (max(curve), ends[name]), (8, 0), textcoords="offset points", color=colour, va="center")
        places = sorted({place for curve in curves.values() for place in curve})
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel(axis)
        axes.set_ylabel("tokens/s")
        # Room for the names, a third of the width.
        axes.set_xlim(right=max(places) * (max(places) / min(places)) ** 0.5)

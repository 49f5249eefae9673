"""Runs a group: its contenders side by side, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from ..serving.request import ContenderFailed
from .contender import Side, started
from .groups import Group
from .samples import Samples

Tell = Callable[[str], None]


def measure(name: str, group: Group, samples: Samples, rounds: int, minutes: float, tell: Tell) -> None:
    """Add ``rounds`` rounds of ``group`` to ``samples``, but after the first none that would end after ``minutes``.

    A contender that fails is left out from then on; ``samples`` keep why.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for contender in group.contenders:
            try:
                sides[contender.name] = stack.enter_context(started(contender))
            except ContenderFailed as error:
                _leave(samples, contender.name, error, tell)
                continue
            samples.facts[contender.name] = sides[contender.name].facts
            samples.absent.pop(contender.name, None)
        longest_s = 0.0
        for number in range(1, rounds + 1):
            round_began = time.monotonic()
            if number > 1 and round_began + longest_s - began > minutes * 60:
                tell(f"{name}: {number - 1} of {rounds} rounds, because {minutes:g} minutes would not do for more")
                return
            _round(name, group, samples, sides, number, tell)
            longest_s = max(longest_s, time.monotonic() - round_began)
            tell(f"{name}: round {number} of {rounds}, {time.monotonic() - round_began:.0f} s")


def _round(name: str, group: Group, samples: Samples, sides: dict[str, Side], number: int, tell: Tell) -> None:
    for title, work in group.works.items():
        times = {}
        for contender, side in list(sides.items()):
            try:
                times[contender] = side.measure(work, number, group.within_s)
            except ContenderFailed as error:
                del sides[contender]
                _leave(samples, contender, error, tell)
        samples.add(name, title, work, times)


def _leave(samples: Samples, contender: str, error: ContenderFailed, tell: Tell) -> None:
    samples.absent[contender] = str(error)
    tell(f"left out: {error}")

"""Runs a group: its contenders side by side, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from ..serving.request import ContenderFailed
from .contender import Side, started
from .groups import Group
from .samples import Samples

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Sitting:
    """One group's time: at most ``rounds`` rounds, and after the first none that would end after ``minutes``.

    ``save`` is called after each, so that what was measured outlives an interruption.
    """

    name: str
    rounds: int
    minutes: float
    tell: Tell
    save: Callable[[], None]
    began_s: float = field(default_factory=time.monotonic)

    def turns(self) -> Iterator[int]:
        """Yield the number of each round when it begins."""
        longest_s = 0.0
        for number in range(1, self.rounds + 1):
            began_s = time.monotonic()
            if number > 1 and began_s + longest_s - self.began_s > 60 * self.minutes:
                self.tell(f"{self.name}: no time for a round {number} of {self.rounds} in {self.minutes:g} minutes")
                return
            yield number
            self.save()
            took_s = time.monotonic() - began_s
            longest_s = max(longest_s, took_s)
            self.tell(f"{self.name}: round {number} of {self.rounds} took {took_s:.0f} s")


def measure(group: Group, samples: Samples, sitting: Sitting) -> None:
    """Add rounds of ``group`` to ``samples``.

    A contender that fails is left out from then on; ``samples`` keep why.
    """
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for contender in group.contenders:
            sitting.tell(f"{sitting.name}: starting {contender.name}")
            try:
                sides[contender.name] = stack.enter_context(started(contender))
            except ContenderFailed as error:
                _leave(samples, contender.name, error, sitting.tell)
                continue
            samples.facts[contender.name] = sides[contender.name].facts
            samples.absent.pop(contender.name, None)
        for number in sitting.turns():
            _round(group, samples, sides, number, sitting)


def _round(group: Group, samples: Samples, sides: dict[str, Side], number: int, sitting: Sitting) -> None:
    for title, work in group.works.items():
        times = {}
        for contender, side in list(sides.items()):
            try:
                times[contender] = side.measure(work, number, group.within_s)
            except ContenderFailed as error:
                del sides[contender]
                _leave(samples, contender, error, sitting.tell)
        samples.add(sitting.name, title, work, times)


def _leave(samples: Samples, contender: str, error: ContenderFailed, tell: Tell) -> None:
    samples.absent[contender] = str(error)
    tell(f"left out: {error}")

"""What one rendering of a chat template may use: time, steps, and characters. Knows nothing of jinja2.

A template is foreign code that runs in our process, so whatever it does is counted while it does it. Two things make
the count hold. Everything that can be repeated (a turn of a loop, a call, an operator, a filter) is a *tick*, where the
clock is looked at. And everything that can make much at once is asked for its size before it is made, so that between
two ticks lies no more than one bounded operation.
"""

from __future__ import annotations

import threading
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from time import monotonic
from typing import Any, NoReturn

# The longest text that a template may make. Four times what a context of a million tokens holds.
TEXT_LIMIT_CHARACTERS = 16 * 1024 * 1024
# The longest list.
LIST_LIMIT = 1024 * 1024

# Of lists in lists. Python itself overflows its stack when it hashes a tuple in a million tuples.
DEPTH_LIMIT = 256
# Of generators that are alive: each may be read by the next, and that overflows the stack as well.
LAZY_LIMIT = 64

ELEMENT = 8  # what being in a list weighs, in characters
_REMEMBERED_CHARACTERS = 1024  # what a remembered weight is charged as: it keeps its list alive
_CONTAINERS = (list, tuple, dict, set, KeysView, ValuesView, ItemsView)


@dataclass(frozen=True, slots=True)
class Limits:
    """``characters`` counts all that is made, not what is alive: ``ELEMENT`` for an element of a list."""

    seconds: float
    ticks: int
    characters: int


WHOLE = Limits(seconds=5.0, ticks=2**62, characters=512 * 1024 * 1024)
# What a rendering may use where it holds up everything else; a chat of a few thousand characters uses a tenth of it.
BRIEF = Limits(seconds=0.05, ticks=10_000, characters=4 * 1024 * 1024)


class OverBudget(RuntimeError):
    """The template wants more than it may have; the message says of what."""


class TooLong(Exception):
    """Not to be rendered here and now: render it in a thread, with the whole budget."""


class Budget:
    """Of one rendering, in one thread."""

    __slots__ = ("_brief", "_characters", "_deadline", "_lazy", "_limits", "_ticks", "_weights")

    def __init__(self, limits: Limits = WHOLE, *, brief: bool = False) -> None:
        """``brief``: raise TooLong where OverBudget is due."""
        self._limits = limits
        self._brief = brief
        self._lazy = 0
        self._ticks = limits.ticks
        self._characters = limits.characters
        self._deadline = monotonic() + limits.seconds
        # (the object, so that its id stays its own; weight; depth)
        self._weights: dict[int, tuple[Any, int, int]] = {}

    def tick(self, characters: int = 0) -> None:
        """One more step, that makes so many characters."""
        self._ticks -= 1
        self._characters -= characters
        if self._ticks < 0 or self._characters < 0 or monotonic() > self._deadline:
            self._over()

    def text(self, characters: int) -> None:
        """A text of this length is about to be made."""
        if characters > TEXT_LIMIT_CHARACTERS:
            self.refuse(f"a text of more than {TEXT_LIMIT_CHARACTERS} characters")
        self.tick(characters)

    def items(self, count: int) -> None:
        """A list of this length is about to be made."""
        if count > LIST_LIMIT:
            self.refuse(f"a list of more than {LIST_LIMIT} elements")
        self.tick(ELEMENT * count)

    def work(self, steps: int) -> None:
        """So many steps of the processor are about to be made in one piece."""
        if steps > 2**30:
            self.refuse("an operation that takes too long")
        self.tick(steps // 64)

    def fits(self, weight: int) -> None:
        """A list that will weigh this much is about to be made."""
        if weight > TEXT_LIMIT_CHARACTERS:
            self.refuse(f"a list that holds more than {TEXT_LIMIT_CHARACTERS} characters")

    def weigh(self, value: Any) -> int:
        """Characters and elements in ``value`` and all it holds, each as often as it is held.

        Lists cannot be changed once they are made, so whoever weighs each when it is made bounds what printing,
        comparing or hashing it can cost: ``[x, x]``, forty times over, is four lines of a template.
        """
        return self._measure(value)[0]

    def depth(self, value: Any) -> int:
        """How many lists lie in one another in ``value``."""
        return self._measure(value)[1]

    def weigh_sum(self, both: Any, left: Any, right: Any) -> None:
        """``both`` has been made of the elements of two lists."""
        (one, deep), (other, deeper) = self._measure(left), self._measure(right)
        self._remember(both, one + other, max(deep, deeper))

    def _measure(self, value: Any) -> tuple[int, int]:
        """Weight, and how many lists lie in one another."""
        if isinstance(value, str | bytes):
            return len(value) + ELEMENT, 0
        if not isinstance(value, _CONTAINERS):
            return ELEMENT if not isinstance(value, int) else ELEMENT + value.bit_length() // 3, 0
        if (known := self._weights.get(id(value))) is not None:
            return known[1:]
        self.tick()
        parts = list(chain(value.keys(), value.values()) if isinstance(value, dict) else value)
        measured = [self._measure(part) for part in parts]
        weight = ELEMENT + sum(weight for weight, _ in measured)
        depth = 1 + max((depth for _, depth in measured), default=0)
        self.fits(weight)
        if depth > DEPTH_LIMIT:
            self.refuse(f"lists nested deeper than {DEPTH_LIMIT}")
        if len(parts) > 8 or depth > 1:
            self._remember(value, weight, depth)
        return weight, depth

    def _remember(self, value: Any, weight: int, depth: int) -> None:
        self.fits(weight)
        self.tick(_REMEMBERED_CHARACTERS)
        self._weights[id(value)] = (value, weight, depth)

    def lazy(self, items: Iterator[Any]) -> Iterator[Any]:
        """``items``, with a tick for each."""
        if self._lazy >= LAZY_LIMIT:
            self.refuse(f"more than {LAZY_LIMIT} filters that read one another")
        return _Lazy(self, items)

    def refuse(self, what: str) -> NoReturn:
        raise TooLong(what) if self._brief else OverBudget(what)

    def _over(self) -> NoReturn:
        if self._characters < 0:
            self.refuse(f"more than {self._limits.characters} characters in all")
        self.refuse(
            f"more than {self._limits.seconds:g} s" if self._ticks >= 0 else f"more than {self._limits.ticks} steps"
        )


class _Lazy(Iterator[Any]):
    """No generator, so that it can say when it goes."""

    __slots__ = ("_budget", "_items")

    def __init__(self, budget: Budget, items: Iterator[Any]) -> None:
        self._budget = budget
        self._items = items
        budget._lazy += 1

    def __next__(self) -> Any:
        self._budget.tick()
        return next(self._items)

    def __del__(self) -> None:
        self._budget._lazy -= 1


class _Active(threading.local):
    budget: Budget | None = None


_active = _Active()


def current() -> Budget:
    """The budget of what this thread renders or compiles."""
    budget = _active.budget
    if budget is None:
        raise RuntimeError("a template runs without a budget")
    return budget


@contextmanager
def spending(budget: Budget) -> Iterator[Budget]:
    """Whatever template code runs in this thread within the block is counted in ``budget``."""
    before, _active.budget = _active.budget, budget
    try:
        yield budget
    finally:
        _active.budget = before

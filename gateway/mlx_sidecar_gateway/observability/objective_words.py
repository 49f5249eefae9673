"""Objectives as the command line has them: ``high:first_token=0.5,gap=0.2,target=0.99``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from ..core.keys import PRIORITIES
from .burn_rate import ALARM

MEASURES = ("first_token", "gap")
LOWER_ADMISSION, RAISE_PRIORITY = ACTIONS = ("lower-admission", "raise-priority")
_WORDS = (*MEASURES, "target", "burn", "action")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A share of the requests of one priority that is to be within a bound.

    priority: The one that requests ask for.
    measure: "first_token", the time from the arrival of a request to its first token, or "gap", the longest time
        between two parts of a streamed answer.
    bound_s: In seconds.
    target: The share, above 0 and below 1.
    burn: The burn rate at which it is taken for missed.
    action: One of ``ACTIONS`` that is taken then, or None.
    """

    priority: str
    measure: str
    bound_s: float
    target: float = 0.99
    burn: float = ALARM
    action: str | None = None

    @property
    def name(self) -> str:
        return f"{self.priority}:{self.measure}"


def read_objectives(texts: Iterable[str]) -> tuple[Objective, ...]:
    """The objectives of all ``texts``. Raises ``ValueError`` naming the text and the word that does not fit."""
    found: dict[str, Objective] = {}
    for text in texts:
        try:
            for objective in _read(text):
                if objective.name in found:
                    raise ValueError(f"there is an objective {objective.name} already")
                found[objective.name] = objective
        except ValueError as error:
            raise ValueError(f"{text}: {error}") from None
    return tuple(found.values())


def _read(text: str) -> list[Objective]:
    priority, colon, words = text.partition(":")
    if priority not in PRIORITIES or not colon:
        raise ValueError(f"a priority is needed, a colon, and words: {', '.join(PRIORITIES)}")
    values = _values(words)
    bounds = {measure: _seconds(measure, values[measure]) for measure in MEASURES if measure in values}
    if not bounds:
        raise ValueError(f"a bound is needed: {' or '.join(f'{measure}=SECONDS' for measure in MEASURES)}")
    target = _target(values.get("target", "0.99"))
    burn = _burn(values.get("burn"), target)
    action = _action(values.get("action"), priority)
    return [
        Objective(priority=priority, measure=measure, bound_s=bound_s, target=target, burn=burn, action=action)
        for measure, bound_s in bounds.items()
    ]


def _values(words: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in words.split(","):
        name, equals, value = word.partition("=")
        if name not in _WORDS or not equals:
            raise ValueError(f"{word!r}: no such word; there are {', '.join(f'{known}=' for known in _WORDS)}")
        if name in values:
            raise ValueError(f"{name} stands there twice")
        values[name] = value
    return values


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not isfinite(number) or number <= 0:
        raise ValueError(f"{name}={value}: a positive number is needed")
    return number


def _seconds(name: str, value: str) -> float:
    return _number(name, value)


def _target(value: str) -> float:
    target = _number("target", value)
    if target >= 1:
        raise ValueError(f"target={value}: must be below 1, because what it leaves is what may burn")
    return target


def _burn(value: str | None, target: float) -> float:
    burn, most = ALARM if value is None else _number("burn", value), 1 / (1 - target)
    if burn >= most:
        raise ValueError(f"burn={burn:g}: with target={target:g} no rate is above {most:g}; choose a lower burn")
    return burn


def _action(value: str | None, priority: str) -> str | None:
    if value is None:
        return None
    if value not in ACTIONS:
        raise ValueError(f"action={value}: must be {' or '.join(ACTIONS)}")
    if value == LOWER_ADMISSION and priority == PRIORITIES[0]:
        raise ValueError(f"action={value}: no priority is below {priority}")
    if value == RAISE_PRIORITY and priority == PRIORITIES[-1]:
        raise ValueError(f"action={value}: no priority is above {priority}")
    return value

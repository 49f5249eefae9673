"""Objectives: how soon most requests of a priority are to be answered, whether they are, and what is done if not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.keys import PRIORITIES, Key, is_at_most
from ..core.records import DISCONNECTED, Record
from ..surfaces.faults import Fault, Refused
from .burn_rate import Alarm
from .objective_words import LOWER_ADMISSION, RAISE_PRIORITY, Objective

log = logging.getLogger("mlx_sidecar_gateway")

_GIVEN_UP = (DISCONNECTED, "deadline_passed")
_MODELS_FAULT = "tool_call_error"  # of an answer that came as a whole
_FIRST_WAIT_S, _WAITS = 15, 30  # refused clients are told 15 to 44 s, each another, so that they do not come at once


class Figure(NamedTuple):
    """The requests of one objective in one window, "5m" or "1h"."""

    priority: str
    objective: str
    window: str
    burn_rate: float
    good: int
    bad: int


@dataclass
class _Kept:
    """An objective, how it is kept, and what was done for it."""

    objective: Objective
    alarm: Alarm
    alarms: int = 0
    refused: int = 0
    raised: int = 0


class Objectives:
    """Judges the requests of each objective, and acts where one burns that has an action.

    Decides by the records it hears and by ``clock_s``, and by nothing else.
    """

    def __init__(self, objectives: Sequence[Objective], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._kept = [_Kept(each, Alarm(each.burn, 1 - each.target)) for each in objectives]

    def hear(self, record: Record) -> None:
        """Count a request that has ended, if an objective judges it."""
        for kept in self._kept:
            # One that an action refused has no priority.
            if record.generates and record.priority and record.asked_priority == kept.objective.priority:
                verdict = judged(record, kept.objective)
                if verdict is not None:
                    kept.alarm.windows.add(self._clock_s(), is_good=verdict)

    def admitted(self, asked: str, key: Key) -> str:
        """The priority with which a request runs that asks for ``asked``; raises ``Refused`` for one that must wait."""
        burning = [kept for kept in self._kept if self._burns(kept)]
        for kept in burning:
            if kept.objective.action == LOWER_ADMISSION and _is_below(asked, kept.objective.priority):
                kept.refused += 1
                raise Refused(_wait(kept))
        for kept in burning:
            if kept.objective.action == RAISE_PRIORITY and asked == kept.objective.priority:
                higher = PRIORITIES[PRIORITIES.index(asked) + 1]
                if is_at_most(higher, key.highest_priority):
                    kept.raised += 1
                    return higher
        return asked

    def figures(self) -> list[Figure]:
        """The burn rate of each objective in each window, with the numbers behind it."""
        self._advance()
        return [
            Figure(
                kept.objective.priority,
                kept.objective.measure,
                window,
                count.burn_rate(kept.alarm.allowed),
                count.good,
                count.bad,
            )
            for kept in self._kept
            for window, count in kept.alarm.windows.counts.items()
        ]

    def told(self) -> list[dict[str, Any]]:
        """All there is to tell of each objective, as plain values."""
        self._advance()
        return [
            {
                **_named(kept.objective),
                "burns": kept.alarm.is_on,
                "windows": {
                    window: {"good": count.good, "bad": count.bad, "burn_rate": count.burn_rate(kept.alarm.allowed)}
                    for window, count in kept.alarm.windows.counts.items()
                },
                "alarms": kept.alarms,
                "refused": kept.refused,
                "raised": kept.raised,
            }
            for kept in self._kept
        ]

    def _advance(self) -> None:
        for kept in self._kept:
            self._burns(kept)

    def _burns(self, kept: _Kept) -> bool:
        before = kept.alarm.is_on
        now = kept.alarm.at(self._clock_s())
        if now and not before:
            kept.alarms += 1
        if now != before:
            log.warning("objective %s %s", kept.objective.name, "burns" if now else "is kept again")
        return now


def judged(record: Record, objective: Objective) -> bool | None:
    """Whether a request kept to the objective's bound; None for one that says nothing of it.

    A generation that the gateway or the engine failed is bad: its first token never came, or its last gap has no end.
    A refused request says nothing, if it or an action is the reason. Nor does one that ended while its client still
    waited, because the client left or set a deadline, unless it had waited for longer than the bound.
    """
    has_begun = record.first_token_s is not None
    if objective.measure == "first_token":
        measured_s, waited_s, is_open = record.first_token_s, record.duration_s, not has_begun
    else:
        measured_s, waited_s, is_open = record.longest_gap_s, record.silence_s, has_begun and record.is_streamed
    if measured_s is not None and measured_s > objective.bound_s:
        return False
    if is_open and record.outcome in _GIVEN_UP:
        return False if (waited_s or 0.0) > objective.bound_s else (None if measured_s is None else True)
    if is_open and record.fault_status >= 500 and record.outcome != _MODELS_FAULT:
        return False
    return None if measured_s is None else True


def _is_below(priority: str, other: str) -> bool:
    return priority != other and is_at_most(priority, other)


def _wait(kept: _Kept) -> Fault:
    message = f"requests of priority {kept.objective.priority} are late, and others have to wait until they are not"
    wait_s = _FIRST_WAIT_S + kept.refused % _WAITS
    details = {"objective": kept.objective.name}
    return Fault(503, "overloaded", message, retryable=True, retry_after_s=wait_s, details=details)


def _named(objective: Objective) -> dict[str, Any]:
    return {
        "priority": objective.priority,
        "objective": objective.measure,
        "bound_s": objective.bound_s,
        "target": objective.target,
        "burn": objective.burn,
        "action": objective.action,
    }

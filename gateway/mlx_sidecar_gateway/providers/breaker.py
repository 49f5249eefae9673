"""A breaker keeps requests from a provider that fails, until it is well again. Pure: it is given the time.

While it is closed requests pass. It opens after failures in a row, or when half of the latest requests failed. Open, it
lets none pass. A health probe that went well, or the end of a wait, makes it half-open: then one request at a time
passes as a trial, whose success closes it and whose failure opens it for longer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final


class State(Enum):
    """Whether requests pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Cause(Enum):
    """The causes of a change."""

    TRIPPED = "too many failures"
    PROBED = "a probe went well"
    WAITED = "the wait is over"
    TRIED_WELL = "a trial succeeded"
    TRIED_BADLY = "a trial failed"


NEXT: Final = {
    (State.CLOSED, Cause.TRIPPED): State.OPEN,
    (State.OPEN, Cause.PROBED): State.HALF_OPEN,
    (State.OPEN, Cause.WAITED): State.HALF_OPEN,
    (State.HALF_OPEN, Cause.TRIED_WELL): State.CLOSED,
    (State.HALF_OPEN, Cause.TRIED_BADLY): State.OPEN,
}
"""The table of changes; there are no others."""

WINDOW: Final = 20  # latest results, of which half may fail
_LEAST: Final = 10  # results before half of them says something


@dataclass(frozen=True)
class Permit:
    """One request may pass. ``epoch`` counts the breaker's changes, so that results of an earlier state say nothing."""

    epoch: int
    is_trial: bool


class Breaker:
    """The breaker of one provider. Times are seconds of a clock that never goes back.

    failures: So many in a row open it. With more than ``WINDOW`` nothing else does.
    open_s: The first wait; each trial that fails doubles it, up to ``longest_open_s``.
    """

    def __init__(self, failures: int = 5, open_s: float = 1.0, longest_open_s: float = 60.0) -> None:
        self.state = State.CLOSED
        self._failures = failures
        self._first_open_s, self._longest_open_s = open_s, longest_open_s
        self.open_s = open_s  # the present wait, or the last one
        self._until_s = 0.0
        self._epoch = 0
        self._trial_runs = False
        self._in_a_row = 0
        self._latest: deque[bool] = deque(maxlen=WINDOW)

    def admit(self, now_s: float) -> Permit | None:
        """A permit for one request; None if none may pass. It goes back by exactly one of the three calls below."""
        if self.state is State.OPEN and now_s >= self._until_s:
            self._change(Cause.WAITED, now_s)
        if self.state is State.OPEN or (self.state is State.HALF_OPEN and self._trial_runs):
            return None
        self._trial_runs = self.state is State.HALF_OPEN
        return Permit(self._epoch, self._trial_runs)

    def wait_s(self, now_s: float) -> float:
        """How long until a request may pass, as far as that is known; 0 where it passes, or a trial decides."""
        return max(0.0, self._until_s - now_s) if self.state is State.OPEN else 0.0

    def succeeded(self, permit: Permit, now_s: float) -> None:
        """The request was answered, if only with a refusal that its client deserved."""
        if permit.epoch != self._epoch:
            return
        if permit.is_trial:
            self._change(Cause.TRIED_WELL, now_s)
        else:
            self._in_a_row = 0
            self._latest.append(True)

    def failed(self, permit: Permit, now_s: float) -> None:
        """The provider failed the request."""
        if permit.epoch != self._epoch:
            return
        if permit.is_trial:
            self._change(Cause.TRIED_BADLY, now_s)
            return
        self._in_a_row += 1
        self._latest.append(False)
        half = len(self._latest) >= max(_LEAST, self._failures) and 2 * self._latest.count(False) >= len(self._latest)
        if self._in_a_row >= self._failures or half:
            self._change(Cause.TRIPPED, now_s)

    def abandoned(self, permit: Permit) -> None:
        """The request ended without telling anything of the provider, as one whose client left."""
        if permit.epoch == self._epoch and permit.is_trial:
            self._trial_runs = False

    def probed_well(self, now_s: float) -> None:
        """A health probe went well."""
        if self.state is State.OPEN:
            self._change(Cause.PROBED, now_s)

    def _change(self, cause: Cause, now_s: float) -> None:
        self.state = NEXT[self.state, cause]
        self._epoch += 1
        self._trial_runs = False
        if self.state is State.OPEN:
            wait_s = self._first_open_s if cause is Cause.TRIPPED else self.open_s * 2
            self.open_s = min(wait_s, self._longest_open_s)
            self._until_s = now_s + self.open_s
        elif self.state is State.CLOSED:
            self._in_a_row = 0
            self._latest.clear()

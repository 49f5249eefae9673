"""The restart policy decides whether and when a lost engine is followed by another. Pure: it is told the time."""

from __future__ import annotations

from enum import Enum

DELAYS_S = (0.0, 0.1, 0.2, 0.4)  # before the next start, by useless deaths in a row
LOADS = 20  # deaths in a row of engines that only loaded, after which engines are given up: a load may end them
LIFE_S = 60.0  # an engine that lived so long was not lost to its start
REST_S = 30.0  # after giving up, until any request may start an engine; an explicit load may at once


class Life(Enum):
    """How useful an engine was before it was lost.

    ``USEFUL``: a token was decoded, it lived for ``LIFE_S``, or its death showed which request causes it. ``LOADED``: a
    model became resident, no more. ``USELESS``: nothing.
    """

    USEFUL = "useful"
    LOADED = "loaded"
    USELESS = "useless"


class RestartPolicy:
    """Counts deaths in a row, one policy per front. Useful engines may die as often as they like."""

    def __init__(self) -> None:
        self._useless = 0
        self._loaded = 0
        self._gave_up_at = float("-inf")

    @property
    def in_a_row(self) -> int:
        """Deaths since the last useful engine."""
        return self._useless + self._loaded

    def died(self, life: Life, now: float) -> float | None:
        """Seconds to wait before the next start; None to give up. ``now`` is in seconds on a monotonic clock."""
        if life is Life.USEFUL:
            self._useless = self._loaded = 0
            return 0.0
        if life is Life.LOADED:
            self._useless = 0
            self._loaded += 1
        else:
            self._useless += 1
        if self._useless > len(DELAYS_S) or self._loaded >= LOADS:
            self.gave_up(now)
            return None
        return 0.0 if life is Life.LOADED else DELAYS_S[self._useless - 1]

    def gave_up(self, now: float) -> None:
        """Note the time of giving up, from which ``may_try`` counts."""
        self._gave_up_at = now

    def may_try(self, now: float) -> bool:
        """Whether ``REST_S`` have passed since engines were given up."""
        return now - self._gave_up_at >= REST_S

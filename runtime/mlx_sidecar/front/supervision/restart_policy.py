"""Whether, and when, a lost engine is followed by another. Pure: it is told of deaths and of the time."""

from __future__ import annotations

from enum import Enum

DELAYS_S = (0.0, 0.1, 0.2, 0.4)  # before the next start, after so many barren deaths in a row
LOADS = 20  # deaths in a row of engines that loaded and did nothing else: a load may be what ends them
LIFE_S = 60.0  # an engine that lived so long was not lost to its start
REST_S = 30.0  # after giving up, until somebody else than an explicit load may try


class Life(Enum):
    """What came of an engine before it was lost.

    ``USEFUL``: a token was decoded, it lived for ``LIFE_S``, or its death told who causes it. ``LOADED``: a model
    became resident, no more. ``USELESS``: nothing.
    """

    USEFUL = "fruitful"
    LOADED = "loaded"
    USELESS = "barren"


class RestartPolicy:
    """One per front. Engines that get something done may die as often as they like."""

    def __init__(self) -> None:
        self._barren = 0
        self._loaded = 0
        self._gave_up_at = float("-inf")

    @property
    def in_a_row(self) -> int:
        """Deaths since something was last got done."""
        return self._barren + self._loaded

    def died(self, life: Life, now: float) -> float | None:
        """Seconds to wait before the next start, or None: give up."""
        if life is Life.USEFUL:
            self._barren = self._loaded = 0
            return 0.0
        if life is Life.LOADED:
            self._barren = 0
            self._loaded += 1
        else:
            self._barren += 1
        if self._barren > len(DELAYS_S) or self._loaded >= LOADS:
            self.gave_up(now)
            return None
        return 0.0 if life is Life.LOADED else DELAYS_S[self._barren - 1]

    def gave_up(self, now: float) -> None:
        """No engine is started before ``may_try``, unless somebody insists."""
        self._gave_up_at = now

    def may_try(self, now: float) -> bool:
        """After giving up: whether enough time has passed for one more start."""
        return now - self._gave_up_at >= REST_S

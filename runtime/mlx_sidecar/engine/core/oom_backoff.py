"""After an allocation failed less is held than when it did; for a while, because what took the memory may have gone.

Pure: time is a number.
"""

from __future__ import annotations

from math import inf

LASTS_S = 30.0
LONGEST_S = 900.0  # a guard that stays is worse than a long prefill that is begun again


class Ceiling:
    """``limit_bytes`` is what may be held while it is in force, None while it is not; ``until_s`` is when it goes."""

    def __init__(self) -> None:
        self.limit_bytes: int | None = None
        self.until_s = inf
        self._lasts_s = LASTS_S
        self._lifted_s = -inf

    def lower(self, held_bytes: int, less_bytes: int, now: float) -> None:
        """An allocation failed while ``held_bytes`` were held and reserved: from here it is so much less."""
        limit_bytes = max(0, held_bytes - less_bytes)
        if self.limit_bytes is None:
            # A failure soon after it was lifted: the memory is still not there. To find that out costs everybody their
            # caches, so it is tried half as often each time, and a prompt of any length gets through in between.
            again = now < self._lifted_s + self._lasts_s
            self._lasts_s = min(LONGEST_S, 2 * self._lasts_s) if again else LASTS_S
        else:
            limit_bytes = min(limit_bytes, self.limit_bytes)
        self.limit_bytes = limit_bytes
        self.until_s = now + self._lasts_s

    def lift(self, now: float) -> None:
        """Let it go if its time is over."""
        if now >= self.until_s:
            self.limit_bytes, self.until_s, self._lifted_s = None, inf, now

"""The retry budget: how many requests may be sent once more, so that retries never multiply a provider's load. Pure."""

from __future__ import annotations

from collections.abc import Callable


class RetryBudget:
    """A bucket of retries. Each request puts ``ratio`` of one in, up to ``reserve``, with which it begins.

    Of any number of requests no more than ``ratio`` of them, and ``reserve``, are sent again.
    """

    def __init__(self, ratio: float = 0.1, reserve: float = 10.0) -> None:
        self._ratio, self._reserve = ratio, reserve
        self._left = reserve

    def request(self) -> None:
        """A request has come."""
        self._left = min(self._left + self._ratio, self._reserve)

    def take(self) -> bool:
        """Take one retry; False if there is none."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def full_jitter_s(round_: int, base_s: float, longest_s: float, draw: Callable[[], float]) -> float:
    """A wait before the retry number ``round_``, counted from 1: anything up to a bound that doubles each time.

    ``draw`` gives numbers from 0 to 1. Clients that failed together do not come back together.
    """
    return draw() * min(longest_s, base_s * 2.0 ** (round_ - 1))

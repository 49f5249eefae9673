"""A repeat guard finds answers that go round in a loop: whose last tokens are the same few, again and again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

COPIES = 3
"""A loop is seen at the earliest when its tokens stand there so many times."""


class RepeatGuard:
    """Reads the tokens of one answer, and tells the one with which its last ``length`` tokens are a loop.

    They are one if each of them, from the second copy on, is the token ``period`` places before it, for some period of
    a third of ``length`` or less. The state is a function of the tokens so far. A token costs as much time as it stands
    among the last third of ``length``, and memory is linear in that.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._longest = length // COPIES  # of periods
        self._count = 0
        self._latest = deque[int]()  # as many tokens as the longest period has
        self._places: dict[int, deque[int]] = {}  # of each of these, the earliest first
        self._runs: dict[int, int] = {}  # by its period, how many of the last tokens in a row are as many places behind

    def read(self, tokens: Iterable[int]) -> int | None:
        """The number of ``tokens`` up to the one that completes a loop, which is the last to be read; None: no loop."""
        return next((count for count, token in enumerate(tokens, 1) if self._completes(token)), None)

    def _completes(self, token: int) -> bool:
        places = self._places.get(token, ())
        self._runs = {period: self._runs.get(period, 0) + 1 for period in (self._count - place for place in places)}
        self._remember(token)
        return any(period + run >= self._length for period, run in self._runs.items())

    def _remember(self, token: int) -> None:
        if len(self._latest) == self._longest:
            old = self._latest.popleft()
            self._places[old].popleft()
            if not self._places[old]:
                del self._places[old]
        self._latest.append(token)
        self._places.setdefault(token, deque()).append(self._count)
        self._count += 1

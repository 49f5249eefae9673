"""What is kept of rows that ended, found again by the tokens it was computed from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

# Each is compared with every new prompt.
MOST_KEPT = 8
# What fewer tokens save is not worth a copy.
LEAST_TOKENS = 16
# Lists are compared in blocks: the interpreter does that at a few nanoseconds a token.
_BLOCK = 512

T = TypeVar("T")


class Kept(NamedTuple, Generic[T]):
    """A row as it was after ``tokens``."""

    tokens: list[int]
    row: T
    nbytes: int


class Shelf(Generic[T]):
    """Kept rows, the least recently used first.

    ``usable(row, count)`` tells whether ``row`` can be cut back to its first ``count`` tokens.
    """

    def __init__(self, usable: Callable[[Kept[T], int], bool]) -> None:
        self._usable = usable
        self._kept: list[Kept[T]] = []

    @property
    def nbytes(self) -> int:
        return sum(kept.nbytes for kept in self._kept)

    def clear(self) -> None:
        self._kept.clear()

    def find(self, tokens: list[int]) -> tuple[T, int] | None:
        """The row that saves most of ``tokens``, and how many; at least one is left to be computed."""
        best = max(self._kept, key=lambda kept: self._saves(kept, tokens), default=None)
        if best is None or not (count := self._saves(best, tokens)):
            return None
        self._kept.remove(best)
        self._kept.append(best)
        return best.row, count

    def _saves(self, kept: Kept[T], tokens: list[int]) -> int:
        count = min(common_prefix(kept.tokens, tokens), len(tokens) - 1)
        return count if count >= LEAST_TOKENS and self._usable(kept, count) else 0

    def wants(self, tokens: list[int]) -> bool:
        """Whether a row after ``tokens`` would be of use beside what is kept already."""
        if len(tokens) < LEAST_TOKENS:
            return False
        return not any(self._serves(kept, tokens) for kept in self._kept)

    def _serves(self, kept: Kept[T], tokens: list[int]) -> bool:
        return common_prefix(kept.tokens, tokens) == len(tokens) and self._usable(kept, len(tokens))

    def put(self, kept: Kept[T]) -> None:
        """Keep it, in place of those it can serve for, and of the oldest if there are too many."""
        self._kept = [other for other in self._kept if not self._serves(kept, other.tokens)][1 - MOST_KEPT :]
        self._kept.append(kept)


def common_prefix(one: list[int], other: list[int]) -> int:
    """How many tokens they have in common from the start."""
    most = min(len(one), len(other))
    start = 0
    while start < most and one[start : start + _BLOCK] == other[start : start + _BLOCK]:
        start += _BLOCK
    while start < most and one[start] == other[start]:
        start += 1
    return min(start, most)

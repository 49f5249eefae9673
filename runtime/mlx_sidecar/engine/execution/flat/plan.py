"""A layout's instructions to the owners of the arrays: operations that make room, and the plan of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

# A part of at most so many tokens is short: rows of a pool that bring equally many attend in one call, and where a
# layer has a window, all that would be seen without these tokens stays until the row's next part. It is the least that
# is prefilled at once, and more drafts than pay for themselves.
SHORT_TOKENS = 16


class Resize(NamedTuple):
    """Make the pool hold ``slots``: first those named in ``keep``, by their old numbers, then empty ones."""

    capacity: int
    keep: list[int]
    slots: int


class Move(NamedTuple):
    """Copy entries [start, stop) of a slot to the beginning of another, or of itself."""

    capacity: int
    slot: int
    start: int
    stop: int
    to_capacity: int
    to_slot: int


class Blank(NamedTuple):
    """Zero entries [0, stop) of a slot: a NaN that was left there would be seen, because 0 times NaN is NaN."""

    capacity: int
    slot: int
    stop: int


class Drop(NamedTuple):
    """Forget a pool: no row is in it."""

    capacity: int


Op = Resize | Move | Blank | Drop


@dataclass(frozen=True, slots=True)
class Run:
    """Rows in neighbouring slots [first, last) of a pool that take in ``count`` tokens each: one call of attention.

    Their tokens are number ``start`` and following in the plan's order, row by row; the first token of each row is for
    entry ``entries`` of its slot.
    """

    capacity: int
    first: int
    last: int
    start: int
    count: int
    entries: list[int]

    @property
    def stop(self) -> int:
        """Number after their last token in the plan's order."""
        return self.start + (self.last - self.first) * self.count


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row that takes in ``count`` tokens by itself, as part ``part`` of the step, from entry ``index`` of its slot.

    With ``spills`` there is no room for all of them: only the last ``keep`` entries are stored, from entry 0 on.
    """

    capacity: int
    slot: int
    part: int
    count: int
    index: int
    keep: int
    spills: bool


class Plan(NamedTuple):
    """The plan of a step. ``order``: which of the step's parts each row in ``runs`` is; those in ``chunks`` follow."""

    runs: list[Run]
    chunks: list[Chunk]
    order: list[int]

    @property
    def sequence(self) -> list[int]:
        """The parts of the step in the plan's order."""
        return self.order + [chunk.part for chunk in self.chunks] if self.chunks else self.order

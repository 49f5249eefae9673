"""What a layout tells the owners of the arrays: how to make room, and what one step reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


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
    """Forget a pool: nobody is in it."""

    capacity: int


Op = Resize | Move | Blank | Drop


@dataclass(frozen=True, slots=True)
class Run:
    """Rows in neighbouring slots [first, last) of a pool that take in one token each: one call of attention.

    They are number ``start`` and following in the plan's order; entry ``newest`` of each row's slot is for its token.
    """

    capacity: int
    first: int
    last: int
    start: int
    newest: list[int]

    @property
    def stop(self) -> int:
        """Number after the last of them in the plan's order."""
        return self.start + self.last - self.first


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row that takes in ``count`` tokens, from token ``start`` of the step, at entry ``index`` of its slot.

    With ``spills`` there is no room for all of them: only the last ``keep`` entries are stored, from entry 0 on.
    """

    capacity: int
    slot: int
    start: int
    count: int
    index: int
    keep: int
    spills: bool


class Plan(NamedTuple):
    """One step. ``order``: which of the step's parts each one-token row in ``runs`` is; tokens of chunks follow."""

    runs: list[Run]
    chunks: list[Chunk]
    order: list[int]

"""The layout places rows in pools of slots, by capacity. It has no arrays.

All layers of one kind (full attention, or one window) share a layout. A row's tokens lie in temporal order from the
left of its slot and do not shift, with one exception: where a layer has a window, a row that has come to the end of the
largest slot starts again with what its next token sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ...core.memory_cost import WINDOW_SLACK, room_for
from .plan import SHORT_TOKENS, Blank, Chunk, Drop, Move, Op, Plan, Resize, Run

# The cost of one more call of attention in a layer, in tokens of cache copied.
_CALL_TOKENS = 256
# Smaller pools are not worth shrinking.
_LEAST_SLOTS = 4


@dataclass(slots=True)
class Row:
    """A row of ``length`` tokens, those before ``base`` included; entry i of its slot is token ``base + i``.

    Tokens from ``floor`` on can be taken back: where there is a window, those of its last part. Entries beyond the
    ``held`` ones, and before ``written``, are of former tokens.
    """

    capacity: int
    slot: int
    base: int
    length: int
    floor: int
    written: int = 0

    @property
    def held(self) -> int:
        """Entries in its slot."""
        return self.length - self.base


# A part of few tokens: capacity, tokens, slot, number of the part, row.
_Short = tuple[int, int, int, int, Row]


@dataclass(slots=True)
class _Pool:
    allocated: int = 0
    rows: dict[int, Row] = field(default_factory=dict)  # by slot
    dirty: dict[int, int] = field(default_factory=dict)  # by free slot: entries that were written
    gaps: int = 0  # calls of attention that free slots between rows have cost

    @property
    def needed(self) -> int:
        return max(self.rows, default=-1) + 1


class Layout:
    """Rows of one kind of layer; ``window`` is how many tokens each token sees, itself included, 0 for all."""

    def __init__(self, window: int = 0) -> None:
        self.window = window
        self._largest = window + WINDOW_SLACK if window else 1 << 62
        self._pools: dict[int, _Pool] = {}
        self._rows: dict[int, Row] = {}
        self._ops: list[Op] = []
        self._short = False  # a row is at the end of the largest slot
        self._tight = False  # free slots are to go

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def __getitem__(self, number: int) -> Row:
        return self._rows[number]

    def open(self, number: int, expected: int, base: int = 0, length: int = 0) -> None:
        """Give row ``number`` a slot for ``expected`` tokens, of which it has ``length`` already.

        The caller fills in those from ``base`` on.
        """
        row = self._rows[number] = Row(0, 0, base, length, floor=length if self.window else 0)
        self._take(row, max(expected, length) - base)

    def close(self, number: int) -> None:
        """Free the slot of a row."""
        self._leave(self._rows.pop(number))

    def truncate(self, number: int, length: int) -> None:
        """Let row ``number`` hold its first ``length`` tokens only, of which none is before its ``floor``."""
        row = self._rows[number]
        assert row.floor <= length <= row.length
        row.written = max(row.written, row.held)
        row.length = length

    @property
    def slack(self) -> int:
        """Tokens for which free slots have room."""
        free = {capacity: pool.allocated - len(pool.rows) for capacity, pool in self._pools.items()}
        return sum(capacity * max(0, slots) for capacity, slots in free.items())

    def tighten(self) -> None:
        """Let the next ``prepare`` drop all free slots."""
        self._tight = True

    def prepare(self, parts: list[tuple[int, int]]) -> list[Op]:
        """Make room for ``parts``: rows, and how many tokens each takes in.

        Returns the operations on the arrays that come, in this order, before the plan of the same parts.
        """
        for number, count in parts:
            self._settle(self._rows[number], count)
        grown = [op for capacity, pool in self._pools.items() for op in self._grow(capacity, pool)]
        ops = grown + self._ops
        self._ops = []
        if self._short:
            ops += self._shift(self._pools[self._largest])
        for capacity in list(self._pools):
            ops += self._shrink(capacity, self._pools[capacity])
        self._tight = False
        return ops

    def plan(self, parts: list[tuple[int, int]]) -> Plan:
        """Plan where the tokens of ``parts`` go. Afterwards the rows hold them."""
        short: list[_Short] = []
        alone: list[int] = []
        for i, (number, count) in enumerate(parts):
            row = self._rows[number]
            if count > SHORT_TOKENS:
                alone.append(i)
            else:
                short.append((row.capacity, count, row.slot, i, row))
        short.sort()
        runs: list[Run] = []
        order: list[int] = []
        start = 0
        for group in _neighbours(short):
            capacity, count, slot, i, _ = group[0]
            if count > 1 and len(group) == 1:
                alone.append(i)
                continue
            runs.append(Run(capacity, slot, slot + len(group), start, count, [each[4].held for each in group]))
            order += [each[3] for each in group]
            start = runs[-1].stop
            for each in group:
                each[4].length += count
        self._note_gaps(runs)
        return Plan(runs, [self._chunk(i, *parts[i]) for i in alone], order)

    def _chunk(self, part: int, number: int, count: int) -> Chunk:
        row = self._rows[number]
        index = row.held
        spills = index + count > row.capacity
        row.length += count
        keep = self.window - 1 if spills else row.held
        row.base = row.length - keep
        if spills:
            row.floor = row.length
        return Chunk(row.capacity, row.slot, part, count, index, keep, spills)

    def _settle(self, row: Row, count: int) -> None:
        """See that ``count`` tokens more have room in the row's slot, or may spill."""
        row.floor = row.length if self.window else 0
        if row.held + count <= row.capacity:
            return
        if row.capacity == self._largest:
            self._short |= count <= SHORT_TOKENS
            return
        old = replace(row)
        row.written = 0
        self._take(row, row.held + count)
        if row.held:
            self._ops.append(Move(old.capacity, old.slot, 0, row.held, row.capacity, row.slot))
        self._leave(old)

    def _take(self, row: Row, entries: int) -> None:
        """Put the row into the lowest free slot of the pool for so many ``entries``."""
        row.capacity = min(room_for(entries), self._largest)
        pool = self._pools.setdefault(row.capacity, _Pool())
        row.slot = next(slot for slot in range(len(pool.rows) + 1) if slot not in pool.rows)
        pool.rows[row.slot] = row
        if dirty := pool.dirty.pop(row.slot, 0):
            self._ops.append(Blank(row.capacity, row.slot, dirty))

    def _leave(self, row: Row) -> None:
        pool = self._pools[row.capacity]
        del pool.rows[row.slot]
        # A shift or a spill leaves entries behind the row's end.
        pool.dirty[row.slot] = row.capacity if row.base else max(row.held, row.written)

    def _shift(self, pool: _Pool) -> Iterator[Op]:
        """Move rows at the end of their slots back to the start.

        The pool is copied for it. So others that have come far enough go along, and it is not copied soon again.
        """
        self._short = False
        for row in pool.rows.values():
            start, stop = row.floor - row.base - (self.window - 1), row.held
            if start >= WINDOW_SLACK // 2:
                row.base += start
                yield Move(row.capacity, row.slot, start, stop, row.capacity, row.slot)

    def _grow(self, capacity: int, pool: _Pool) -> Iterator[Op]:
        """Grow the pool by a quarter more than needed, because growing copies it."""
        if pool.needed > pool.allocated:
            kept = list(range(pool.allocated))
            pool.allocated = pool.needed if not kept else max(pool.needed, len(kept) * 5 // 4)
            yield Resize(capacity, kept, pool.allocated)

    def _shrink(self, capacity: int, pool: _Pool) -> Iterator[Op]:
        """Drop free slots where they hold half of the pool, or have cost as much as a copy of the pool does."""
        if not pool.rows:
            del self._pools[capacity]
            yield Drop(capacity)
        elif (
            len(pool.rows) * 2 <= pool.allocated > _LEAST_SLOTS
            or pool.gaps * _CALL_TOKENS > pool.allocated * capacity
            or (self._tight and len(pool.rows) < pool.allocated)
        ):
            kept = sorted(pool.rows)
            pool.rows = {slot: pool.rows[old] for slot, old in enumerate(kept)}
            for slot, row in pool.rows.items():
                row.slot = slot
            pool.dirty.clear()
            pool.gaps = 0
            pool.allocated = len(kept)
            yield Resize(capacity, kept, pool.allocated)

    def _note_gaps(self, runs: list[Run]) -> None:
        for before, run in pairwise(runs):
            if (before.capacity, before.count) == (run.capacity, run.count):
                pool = self._pools[run.capacity]
                pool.gaps += any(slot not in pool.rows for slot in range(before.last, run.first))


def _neighbours(short: list[_Short]) -> Iterator[list[_Short]]:
    """Split ``short``, in order, into parts that one call of attention can take."""
    start = 0
    for i, (capacity, count, slot, *_) in enumerate(short, 1):
        if i == len(short) or short[i][:3] != (capacity, count, slot + 1):
            yield short[start:i]
            start = i

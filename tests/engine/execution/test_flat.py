"""The layout of rows by itself: bookkeeping, without a model."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlx_sidecar.engine.core.memory_cost import WINDOW_SLACK
from mlx_sidecar.engine.execution.flat.layout import Layout
from mlx_sidecar.engine.execution.flat.plan import SHORT_TOKENS, Blank, Drop, Move, Op, Plan, Resize

WINDOW = 40
Entry = tuple[int, int]  # row and position, as a slot holds them


class Slots:
    """The contents of a layer's arrays, kept in lists."""

    def __init__(self) -> None:
        self.pools: dict[int, list[list[Entry | None]]] = {}

    def apply(self, ops: list[Op]) -> None:
        for op in ops:
            match op:
                case Resize(capacity, keep, slots):
                    kept = [self.pools[capacity][slot] for slot in keep] if keep else []
                    self.pools[capacity] = kept + [[None] * capacity for _ in range(slots - len(kept))]
                case Move(capacity, slot, start, stop, to_capacity, to_slot):
                    self.pools[to_capacity][to_slot][: stop - start] = self.pools[capacity][slot][start:stop]
                case Blank(capacity, slot, stop):
                    self.pools[capacity][slot][:stop] = [None] * stop
                case Drop(capacity):
                    self.pools.pop(capacity, None)


class Rows(RuleBasedStateMachine):
    """Rows come, grow and go in any order; after each step every row sees exactly what it should."""

    window = 0

    def __init__(self) -> None:
        super().__init__()
        self.layout = Layout(self.window)
        self.slots = Slots()
        self.lengths: dict[int, int] = {}
        self.floors: dict[int, int] = {}  # as far back as rows may be taken
        self.names = 0

    @rule(expected=st.integers(1, 1500))
    def open(self, expected: int) -> None:
        self.names += 1
        self.lengths[self.names] = self.floors[self.names] = 0
        self.layout.open(self.names, expected)

    @precondition(lambda self: self.lengths)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(sorted(self.lengths)))
        self.layout.close(row)
        del self.lengths[row]

    @precondition(lambda self: self.lengths)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        rows = data.draw(st.lists(st.sampled_from(sorted(self.lengths)), unique=True, min_size=1))
        counts = st.one_of(st.just(1), st.just(1), st.just(5), st.integers(1, 30), st.integers(1, 700))
        parts = [(row, data.draw(counts)) for row in rows]
        self.slots.apply(self.layout.prepare(parts))
        self.check_bounds()
        before = {row: self.layout[row].base for row, _ in parts}
        plan = self.layout.plan(parts)
        assert sorted(plan.sequence) == list(range(len(parts)))
        order = iter(plan.order)
        start = 0
        for run in plan.runs:
            assert run.start == start
            start = run.stop
            for slot, entry in enumerate(run.entries, run.first):
                row, count = parts[next(order)]
                assert count == run.count
                assert (run.capacity, slot) == (self.layout[row].capacity, self.layout[row].slot)
                for i in range(count):
                    self.slots.pools[run.capacity][slot][entry + i] = (row, self.lengths[row] + i)
        for chunk in plan.chunks:
            row, count = parts[chunk.part]
            assert chunk.count == count
            assert count > SHORT_TOKENS or not chunk.spills
            held = self.slots.pools[chunk.capacity][chunk.slot]
            assert chunk.index + before[row] == self.lengths[row]
            whole = held[: chunk.index] + [(row, self.lengths[row] + i) for i in range(count)]
            if chunk.spills:
                held[: chunk.keep] = whole[-chunk.keep :]
            else:
                held[: len(whole)] = whole
        for row, count in parts:
            self.floors[row] = self.layout[row].length if self.spilled(plan, parts, row) else self.lengths[row]
            self.lengths[row] += count

    @staticmethod
    def spilled(plan: Plan, parts: list[tuple[int, int]], row: int) -> bool:
        return any(chunk.spills and parts[chunk.part][0] == row for chunk in plan.chunks)

    @precondition(lambda self: self.lengths)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(sorted(self.lengths)))
        length = data.draw(st.integers(self.floors[row], self.lengths[row]))
        self.layout.truncate(row, length)
        self.lengths[row] = length

    @invariant()
    def every_row_holds_what_its_next_token_sees(self) -> None:
        for row, length in self.lengths.items():
            if not length:
                continue
            place = self.layout[row]
            assert place.length == length
            first = max(0, length - (self.window - 1)) if self.window else 0
            assert place.base <= first
            slot = self.slots.pools[place.capacity][place.slot]
            assert slot[: place.held] == [(row, at) for at in range(place.base, length)]

    @invariant()
    def no_row_finds_what_another_left(self) -> None:
        for row, length in self.lengths.items():
            place = self.layout[row]
            if place.capacity in self.slots.pools and length:
                slot = self.slots.pools[place.capacity][place.slot]
                assert all(entry is None or entry[0] == row for entry in slot)

    def check_bounds(self) -> None:
        """Memory follows the rows there are."""
        for capacity, pool in self.slots.pools.items():
            inside = sum(self.layout[row].capacity == capacity for row in self.lengths)
            assert len(pool) <= max(4, 2 * inside)
            assert not self.window or capacity <= self.window + WINDOW_SLACK


class RowsOfAWindow(Rows):
    window = WINDOW


TestRows = Rows.TestCase
TestRowsOfAWindow = RowsOfAWindow.TestCase
TestRows.settings = TestRowsOfAWindow.settings = settings(max_examples=40, stateful_step_count=30)


def stepped(layout: Layout, rows: list[int], tokens: int = 1) -> Any:
    parts = [(row, tokens) for row in rows]
    return layout.prepare(parts), layout.plan(parts)


def test_rows_side_by_side_are_one_run_and_a_leave_copies_nothing() -> None:
    layout = Layout()
    for row in range(6):
        layout.open(row, 200)
    ops, plan = stepped(layout, list(range(6)))
    assert ops == [Resize(256, [], 6)]
    assert [(run.first, run.last) for run in plan.runs] == [(0, 6)]
    layout.close(2)
    ops, plan = stepped(layout, [5, 4, 3, 1, 0])
    assert ops == []
    assert [(run.first, run.last) for run in plan.runs] == [(0, 2), (3, 6)]
    assert [[5, 4, 3, 1, 0][i] for i in plan.order] == [0, 1, 3, 4, 5]


def test_a_row_that_joins_takes_the_free_slot_blanked() -> None:
    layout = Layout()
    for row in range(3):
        layout.open(row, 200)
    stepped(layout, [0, 1, 2])
    layout.close(1)
    layout.open(9, 200)
    ops, plan = stepped(layout, [0, 9, 2])
    assert ops == [Blank(256, 1, 1)]
    assert len(plan.runs) == 1


def test_a_row_that_joins_does_not_find_what_was_taken_back_before() -> None:
    layout = Layout()
    for row in range(3):
        layout.open(row, 200)
    stepped(layout, [0, 1, 2], tokens=5)
    layout.truncate(1, 2)
    stepped(layout, [1])
    layout.close(1)
    layout.open(9, 200)
    assert stepped(layout, [0, 9, 2])[0] == [Blank(256, 1, 5)]


def test_a_gap_is_closed_when_it_has_cost_as_much_as_a_copy() -> None:
    layout = Layout()
    for row in range(8):
        layout.open(row, 200)
    stepped(layout, list(range(8)))
    layout.close(3)
    stay = [0, 1, 2, 4, 5, 6, 7]
    resized = next(i for i in range(50) if stepped(layout, stay)[0])
    assert resized >= 8  # a call more in each step costs as much as copying one of these slots
    assert len(stepped(layout, stay)[1].runs) == 1


def test_a_pool_shrinks_when_half_of_it_is_free_and_goes_when_it_is_empty() -> None:
    layout = Layout()
    for row in range(16):
        layout.open(row, 200)
    stepped(layout, list(range(16)))
    for row in range(8):
        layout.close(row)
    assert stepped(layout, [9])[0] == [Resize(256, list(range(8, 16)), 8)]
    for row in range(8, 16):
        layout.close(row)
    assert layout.prepare([]) == [Drop(256)]


def test_a_row_that_grows_out_of_its_slot_moves_alone() -> None:
    layout = Layout()
    layout.open(0, 255)
    layout.open(1, 200)
    layout.prepare([(0, 256)])
    layout.plan([(0, 256)])
    assert stepped(layout, [0, 1])[0] == [Resize(384, [], 1), Move(256, 0, 0, 256, 384, 0)]


def test_rows_side_by_side_that_bring_equally_few_tokens_are_one_run() -> None:
    layout = Layout()
    for row in range(6):
        layout.open(row, 200)
    parts = [(5, 4), (0, 4), (1, 4), (2, 1), (4, 4), (3, 1)]
    layout.prepare(parts)
    plan = layout.plan(parts)
    assert [(run.first, run.last, run.count) for run in plan.runs] == [(2, 4, 1), (0, 2, 4), (4, 6, 4)]
    assert [run.start for run in plan.runs] == [0, 2, 10]
    assert [parts[i][0] for i in plan.order] == [2, 3, 0, 1, 4, 5]
    assert plan.chunks == []


def test_a_row_alone_with_its_number_of_tokens_is_a_chunk_and_so_is_each_that_brings_many() -> None:
    layout = Layout()
    for row in range(4):
        layout.open(row, 200)
    parts = [(0, 20), (1, 20), (2, 3), (3, 1)]
    layout.prepare(parts)
    plan = layout.plan(parts)
    assert [(run.first, run.last, run.count) for run in plan.runs] == [(3, 4, 1)]
    assert [chunk.part for chunk in plan.chunks] == [0, 1, 2]


def test_few_tokens_at_the_end_of_the_largest_slot_leave_what_is_seen_without_them() -> None:
    layout = Layout(WINDOW)
    layout.open(0, 1000)
    layout.prepare([(0, WINDOW + WINDOW_SLACK)])
    layout.plan([(0, WINDOW + WINDOW_SLACK)])
    length = layout[0].length
    assert stepped(layout, [0])[0], "the row starts again"
    layout.truncate(0, length)
    assert layout[0].base <= length - (WINDOW - 1)


def test_a_row_that_waits_is_not_moved_beyond_what_it_may_be_taken_back_to() -> None:
    layout = Layout(WINDOW)
    for row in (0, 1):
        layout.open(row, 1000)
        layout.prepare([(row, WINDOW + WINDOW_SLACK - 20)])
        layout.plan([(row, WINDOW + WINDOW_SLACK - 20)])
    layout.prepare([(0, 10)])
    layout.plan([(0, 10)])
    floor = layout[0].floor
    while not any(isinstance(op, Move) for op in stepped(layout, [1])[0]):
        pass
    layout.truncate(0, floor)
    assert 0 < layout[0].base <= floor - (WINDOW - 1)


def test_a_chunk_that_spills_cannot_be_taken_back() -> None:
    layout = Layout(WINDOW)
    layout.open(0, 1000)
    layout.prepare([(0, 1000)])
    assert layout.plan([(0, 1000)]).chunks[0].spills
    assert layout[0].floor == layout[0].length == 1000

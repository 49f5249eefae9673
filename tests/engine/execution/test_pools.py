"""Pools hold what they were told to, whichever way it came and however little of a pool is left as it was."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlx_sidecar.engine.execution.flat.plan import Blank, Move, Resize
from mlx_sidecar.engine.execution.flat.pools import Pair, Pools, Shape, memory

HEADS, SIZE = 2, 3
CAPACITIES = (4, 6)


class Both:
    """Pools, and beside them what they should hold: keys and values are alike."""

    def __init__(self) -> None:
        self.pools = Pools(Shape(HEADS, SIZE, SIZE, mx.float32))
        self.expected: dict[int, NDArray[Any]] = {}
        self._written = 0.0

    def resize(self, capacity: int, keep: list[int], slots: int) -> None:
        self.pools.apply([Resize(capacity, keep, slots)])
        kept = [self.expected[capacity][slot] for slot in keep]
        empty = [np.zeros((HEADS, capacity, SIZE), np.float32)] * (slots - len(keep))
        self.expected[capacity] = np.stack(kept + empty)

    def blank(self, capacity: int, slot: int, stop: int) -> None:
        self.pools.apply([Blank(capacity, slot, stop)])
        self.expected[capacity][slot, :, :stop] = 0

    def move(self, capacity: int, slot: int, start: int, stop: int, to: int, to_slot: int) -> None:
        self.pools.apply([Move(capacity, slot, start, stop, to, to_slot)])
        self.expected[to][to_slot, :, : stop - start] = self.expected[capacity][slot, :, start:stop].copy()

    def fill(self, capacity: int, slot: int, count: int) -> None:
        data = self._new(count)
        self.pools.fill(capacity, slot, Pair(mx.array(data[None]), mx.array(data[None])))
        self.expected[capacity][slot, :, :count] = data

    def put(self, capacity: int, slot: int, start: int, stop: int, *, lazily: bool) -> None:
        data = self._new(stop - start)
        if not lazily:
            mx.eval(self.pools.arrays)
        for part in (0, 1):
            self.pools.put(part, capacity, slot, start, mx.array(data) if lazily else data)
        self.expected[capacity][slot, :, start:stop] = data

    def agree(self) -> None:
        for pools in (self.pools.keys, self.pools.values):
            for capacity, expected in self.expected.items():
                np.testing.assert_array_equal(np.array(pools[capacity]), expected)

    def _new(self, tokens: int) -> NDArray[Any]:
        """Numbers that were never written before."""
        count = HEADS * tokens * SIZE
        self._written += count
        return np.arange(self._written - count, self._written, dtype=np.float32).reshape(HEADS, tokens, SIZE) + 1


@pytest.fixture(autouse=True)
def on_a_cpu() -> None:
    if not isinstance(memory(mx.zeros(1)), np.ndarray):
        pytest.skip("there is no way around mlx to the memory of this device")


def test_memory_put_into_a_pool_of_one_slot_that_was_blanked_is_there() -> None:
    both = Both()
    both.resize(4, [], 1)
    both.blank(4, 0, 4)
    both.put(4, 0, 0, 3, lazily=False)
    both.agree()


@given(st.data())
def test_pools_hold_what_was_written_last(data: st.DataObject) -> None:
    both = Both()
    for capacity in CAPACITIES:
        both.resize(capacity, [], data.draw(st.integers(1, 3)))
    for _ in range(data.draw(st.integers(1, 12))):
        capacity, other = data.draw(st.permutations(CAPACITIES))
        slots = len(both.expected[capacity])
        slot = data.draw(st.integers(0, slots - 1))
        start, stop = sorted(data.draw(st.lists(st.integers(0, capacity), min_size=2, max_size=2, unique=True)))
        match data.draw(st.sampled_from(["resize", "blank", "move", "fill", "put", "put lazily", "read"])):
            case "resize":
                keep = sorted(data.draw(st.sets(st.integers(0, slots - 1))))
                both.resize(capacity, keep, max(1, len(keep) + data.draw(st.integers(0, 2))))
            case "blank":
                both.blank(capacity, slot, stop)
            case "move" if stop - start < other:  # a row moves to a larger slot
                to_slot = data.draw(st.integers(0, len(both.expected[other]) - 1))
                both.move(capacity, slot, start, stop, other, to_slot)
            case "fill":
                both.fill(capacity, slot, stop)
            case "put" | "put lazily" as how:
                both.put(capacity, slot, start, stop, lazily=how == "put lazily")
            case _:
                both.agree()
    both.agree()

"""The keys and values of one layer: an array of slots for each capacity in use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from .plan import Blank, Drop, Move, Op, Resize

_KNOWN = (mx.float32, mx.float16)  # numpy has no bfloat16


def memory(array: mx.array) -> NDArray[Any] | mx.array:
    """Return ``array`` itself, or on a CPU its memory, once it is computed.

    A write there changes the array, and all that mlx made of it without copying.
    """
    if mx.default_device().type != mx.DeviceType.cpu or array.dtype not in _KNOWN:
        return array
    mx.eval(array)
    return np.asarray(array)


class Shape(NamedTuple):
    """A layer's store for a token: ``heads`` keys of ``key`` numbers, and as many values of ``value`` numbers."""

    heads: int
    key: int
    value: int
    dtype: mx.Dtype

    @property
    def token_bytes(self) -> int:
        return self.heads * (self.key + self.value) * self.dtype.size


class Pair(NamedTuple):
    """Keys and values [1, heads, tokens, size] of one row."""

    keys: mx.array
    values: mx.array


class Pools:
    """The pools of a layer: ``keys[capacity]`` is [slots, heads, capacity, key], ``values[capacity]`` likewise.

    mlx writes into an array in place where nothing unevaluated reads it any more, else it copies it. So a copy of a row
    out of a pool should be evaluated before the pool is written to again.
    """

    def __init__(self, shape: Shape) -> None:
        self._sizes = (shape.key, shape.value)
        self._heads = shape.heads
        self._dtype = shape.dtype
        self.keys: dict[int, mx.array] = {}
        self.values: dict[int, mx.array] = {}

    @property
    def arrays(self) -> list[mx.array]:
        return [*self.keys.values(), *self.values.values()]

    def apply(self, ops: Iterable[Op]) -> None:
        """Carry out the layout's operations; lazily."""
        for op in ops:
            match op:
                case Resize(capacity, keep, slots):
                    for pools, size in zip((self.keys, self.values), self._sizes, strict=True):
                        pools[capacity] = self._resized(pools.get(capacity), capacity, keep, slots, size)
                case Move(capacity, slot, start, stop, to_capacity, to_slot):
                    for pools in (self.keys, self.values):
                        moved = pools[capacity][slot, :, start:stop]
                        pools[to_capacity][to_slot, :, : stop - start] = moved
                case Blank(capacity, slot, stop):
                    for pools in (self.keys, self.values):
                        pools[capacity][slot, :, :stop] = 0
                case Drop(capacity):
                    for pools in (self.keys, self.values):
                        pools.pop(capacity, None)

    def _resized(self, old: mx.array | None, capacity: int, keep: list[int], slots: int, size: int) -> mx.array:
        added = slots - len(keep)
        empty = mx.zeros((added, self._heads, capacity, size), self._dtype)
        if old is None or not keep:
            return empty
        kept = old if len(keep) == old.shape[0] else old[mx.array(keep)]
        return mx.concatenate([kept, empty]) if added else kept

    def fill(self, capacity: int, slot: int, pair: Pair) -> None:
        """Put a row's first entries in."""
        count = pair.keys.shape[2]
        self.keys[capacity][slot, :, :count] = pair.keys[0]
        self.values[capacity][slot, :, :count] = pair.values[0]

    def get(self, part: int, capacity: int, slot: int, start: int, stop: int) -> mx.array:
        """Return a view of keys (0) or values (1) of entries ``start`` to ``stop`` of a slot, [heads, tokens, size]."""
        return (self.keys, self.values)[part][capacity][slot, :, start:stop]

    def put(self, part: int, capacity: int, slot: int, start: int, data: NDArray[Any] | mx.array) -> None:
        """Write keys (0) or values (1) [heads, tokens, size] into a slot, from entry ``start`` on.

        ``data`` is of mlx, and then this is lazy; or it is memory, and then so is the pool: nothing that is not
        evaluated may read it.
        """
        pools, entries = (self.keys, self.values)[part], slice(start, start + data.shape[1])
        if isinstance(data, mx.array):
            pools[capacity][slot, :, entries] = data
            return
        target = memory(pools[capacity])
        if isinstance(target, np.ndarray) and not target.flags.c_contiguous:
            # An assignment to a whole pool copies nothing: a number is there once, with strides of 0.
            pools[capacity] = mx.contiguous(pools[capacity])
            target = memory(pools[capacity])
        target[slot, :, entries] = data

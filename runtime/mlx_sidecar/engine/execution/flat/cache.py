"""The caches that a model is given in the flat forward, one for each layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import mlx.core as mx

from ..mlxlm import AttendingKeys
from .attention import attend_chunk, attend_run
from .plan import Chunk
from .pools import Pair, Pools, Shape
from .step import Step, Write


class Mask(NamedTuple):
    """Stands for a mask between ``make_mask`` and the attention; the model asked for ``window``, 0 for none."""

    window: int


class LayerCache(AttendingKeys):
    """Keeps the tokens of rows together, because to the model every token of a step is a batch row of length 1."""

    def __init__(self, shape: Shape) -> None:
        self.pools = Pools(shape)
        self.step: Step | None = None
        self._spilled: dict[int, Pair] = {}

    @property
    def written(self) -> list[mx.array]:
        """The arrays that this step writes to."""
        pools = self.pools
        return [array for at in self._now.capacities for array in (pools.keys[at], pools.values[at])]

    @property
    def _now(self) -> Step:
        assert self.step is not None
        return self.step

    def rest(self) -> None:
        """Forget the last step."""
        self.step = None
        self._spilled.clear()

    @property
    def offset(self) -> mx.array:
        """The position of each token: [tokens]."""
        return self._now.offset

    def make_mask(self, tokens: int, return_array: bool = False, window_size: int | None = None) -> Mask:
        return Mask(window_size or 0)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[LayerCache, LayerCache]:
        """Store keys and values [tokens, heads, 1, size]."""
        step = self._now
        self._spilled.clear()
        for placed in step.chunks:
            own = placed.tokens
            self._store(placed.chunk, Pair(keys[own].transpose(2, 1, 0, 3), values[own].transpose(2, 1, 0, 3)))
        for pools, new in ((self.pools.keys, keys), (self.pools.values, values)):
            ordered = _ordered(new, step)
            for write in step.writes:
                _write(pools[write.capacity], write, ordered[write.start : write.stop])
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[LayerCache, LayerCache]:
        """Return what ``update_and_fetch`` does, for layers that attend to the keys and values of another layer."""
        return self, self

    def _store(self, chunk: Chunk, new: Pair) -> None:
        keys, values = self.pools.keys[chunk.capacity], self.pools.values[chunk.capacity]
        if not chunk.spills:
            here = slice(chunk.index, chunk.index + chunk.count)
            keys[chunk.slot, :, here] = new.keys[0]
            values[chunk.slot, :, here] = new.values[0]
            return
        old = self._part(chunk, chunk.index)
        whole = Pair(mx.concatenate([old.keys, new.keys], axis=2), mx.concatenate([old.values, new.values], axis=2))
        self._spilled[chunk.part] = whole
        start = whole.keys.shape[2] - chunk.keep
        self.pools.fill(chunk.capacity, chunk.slot, Pair(whole.keys[:, :, start:], whole.values[:, :, start:]))

    def spilled(self, chunk: Chunk) -> Pair:
        """Return the entries that a chunk of the last step sees, and its own, for which its slot was too small."""
        return self._spilled[chunk.part]

    def _part(self, chunk: Chunk, stop: int) -> Pair:
        """Return the row's entries up to ``stop``, from the first that the chunk sees."""
        window = self._now.window
        start = max(0, chunk.index + 1 - window) if window else 0
        keys, values = (
            pools[chunk.capacity][chunk.slot : chunk.slot + 1, :, start:stop]
            for pools in (self.pools.keys, self.pools.values)
        )
        return Pair(keys, values)

    def attend(self, queries: mx.array, scale: float, mask: Any, sinks: mx.array | None) -> mx.array:
        """Attend with ``queries`` [tokens, heads, 1, size]; return the same with the size of values.

        Raises TypeError for a mask that a model made itself.
        """
        if not (mask is None or isinstance(mask, Mask)):
            raise TypeError("a mask of the model's own")
        step = self._now
        window = step.narrower(mask.window if mask else 0)
        out = self._attend_runs(queries, scale, window, sinks) if step.runs else []
        for placed in step.chunks:
            chunk = placed.chunk
            pair = self._spilled.get(chunk.part) or self._part(chunk, chunk.index + chunk.count)
            out.append(attend_chunk(step, queries[placed.tokens], *pair, scale, window, sinks))
        attended = out[0] if len(out) == 1 else mx.concatenate(out)
        return attended if step.inverse is None else attended[step.inverse]

    def _attend_runs(self, queries: mx.array, scale: float, window: int, sinks: mx.array | None) -> list[mx.array]:
        step, pools = self._now, self.pools
        ordered = _ordered(queries, step)
        return [
            attend_run(
                step,
                run,
                ordered[run.start : run.stop],
                pools.keys[run.capacity],
                pools.values[run.capacity],
                scale,
                window,
                sinks,
            )
            for run in step.runs
        ]


def _ordered(rows: mx.array, step: Step) -> mx.array:
    """Return the tokens of the plan's runs, in its order; others may follow."""
    return rows if step.order is None else rows[step.order]


def _write(pool: mx.array, write: Write, rows: mx.array) -> None:
    """Write ``rows`` [tokens, heads, 1, size] into ``pool``."""
    if isinstance(write.slots, int) and isinstance(write.entries, int):
        pool[write.slots : write.slots + 1, :, write.entries : write.entries + 1] = rows
    else:
        pool[write.slots, :, write.entries] = rows[:, :, 0]

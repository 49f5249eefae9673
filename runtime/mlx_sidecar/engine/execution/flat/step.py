"""A step is a plan as arrays, made once and shared by all layers of a kind."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from .plan import Chunk, Plan, Run

# So many rows are written faster one by one: one scatter took as long as four writes of a slice.
_ONE_BY_ONE = 3


class Write(NamedTuple):
    """A write of tokens ``start`` to ``stop`` of the plan's order to ``entries`` of ``slots`` of one pool.

    Both are [tokens], or numbers for a single one.
    """

    capacity: int
    start: int
    stop: int
    slots: mx.array | int
    entries: mx.array | int


class Seen(NamedTuple):
    """The entries [first, last) that some row of a run sees.

    ``mask`` [rows, 1, tokens of each, entries], where tokens differ, is true for the entries that each sees.
    """

    first: int
    last: int
    mask: mx.array | None


class Placed(NamedTuple):
    """A chunk whose tokens are number ``start`` and following of the step."""

    start: int
    chunk: Chunk

    @property
    def tokens(self) -> slice:
        """Where in the step its tokens are."""
        return slice(self.start, self.start + self.chunk.count)


class Step:
    """A plan as arrays: ``offset`` [tokens] is the position of each, ``window`` that of the layers, 0 for none.

    ``order``: where in the step the tokens of the plan's runs are, and ``inverse`` where each of the step's tokens is
    among those of the plan, its chunks last; both None where the step has them in the plan's order.
    """

    def __init__(self, plan: Plan, starts: list[int], offset: mx.array, window: int, *, in_order: bool) -> None:
        """``starts``: where in the step each of its parts begins; ``in_order``: they come in the plan's order."""
        self.runs = plan.runs
        self.chunks = [Placed(starts[chunk.part], chunk) for chunk in plan.chunks]
        self.offset = offset
        self.window = window
        self.order = self.inverse = None
        if not in_order:
            places = _places(plan, starts)
            if plan.runs:
                self.order = mx.array(places[: plan.runs[-1].stop])
            self.inverse = mx.array(sorted(range(len(places)), key=places.__getitem__))
        self.writes = _writes(plan.runs)
        self._seen: dict[tuple[int, int], Seen] = {}
        self._biases: dict[tuple[int, int, mx.Dtype], mx.array] = {}
        self._masks: dict[tuple[int, int, int], mx.array] = {}
        self._chunk_biases: dict[tuple[int, int, int, mx.Dtype], mx.array] = {}

    @property
    def capacities(self) -> set[int]:
        """The pools that are written to."""
        return {run.capacity for run in self.runs} | {placed.chunk.capacity for placed in self.chunks}

    def narrower(self, window: int) -> int:
        """Return the window that holds where a model asks for ``window`` (0: none) of these layers."""
        return min(window, self.window) if window and self.window else window or self.window

    def seen(self, run: Run, window: int) -> Seen:
        """Return the entries that the rows of ``run`` see."""
        key = (run.start, window)
        if key not in self._seen:
            self._seen[key] = _seen(run, window)
        return self._seen[key]

    def bias(self, run: Run, window: int, dtype: mx.Dtype) -> mx.array | None:
        """Return the mask of ``seen`` as numbers to add to scores."""
        seen = self.seen(run, window)
        if seen.mask is None:
            return None
        key = (run.start, window, dtype)
        if key not in self._biases:
            self._biases[key] = mx.where(seen.mask, mx.array(0, dtype), mx.array(-mx.inf, dtype))
        return self._biases[key]

    def chunk_mask(self, count: int, before: int, window: int) -> mx.array | str:
        """Mask ``count`` queries over as many keys and ``before`` older ones: [count, before + count], or "causal"."""
        return "causal" if not window or before + count <= window else self._chunk_mask(count, before, window)

    def chunk_bias(self, count: int, before: int, window: int, dtype: mx.Dtype) -> mx.array:
        """Return ``chunk_mask`` as numbers to add to scores, [count, before + count]."""
        key = (count, before, window, dtype)
        if key not in self._chunk_biases:
            mask = self._chunk_mask(count, before, window or before + count)
            self._chunk_biases[key] = mx.where(mask, mx.array(0, dtype), mx.array(-mx.inf, dtype))
        return self._chunk_biases[key]

    def _chunk_mask(self, count: int, before: int, window: int) -> mx.array:
        key = (count, before, window)
        if key not in self._masks:
            keys = mx.arange(before + count)
            queries = mx.arange(before, before + count)[:, None]
            self._masks[key] = (keys <= queries) & (keys > queries - window)
        return self._masks[key]


def _places(plan: Plan, starts: list[int]) -> list[int]:
    """Return where in the step the plan's tokens are, in its order."""
    places: list[int] = []
    counts = [run.count for run in plan.runs for _ in run.entries]
    for part, count in zip(plan.order, counts, strict=True):
        places += range(starts[part], starts[part] + count)
    for chunk in plan.chunks:
        places += range(starts[chunk.part], starts[chunk.part] + chunk.count)
    return places


def _seen(run: Run, window: int) -> Seen:
    last = max(run.entries) + run.count
    oldest = min(run.entries)
    first = max(0, oldest + 1 - window) if window else 0
    if oldest + 1 == last:
        return Seen(first, last, None)
    entries = mx.arange(first, last)
    own = mx.array(run.entries)[:, None, None, None]
    if run.count > 1:
        own = own + mx.arange(run.count)[:, None]
    mask = entries <= own
    if window and last > window:
        mask = mask & (entries > own - window)
    return Seen(first, last, mask)


def _writes(runs: list[Run]) -> list[Write]:
    """Return the writes: each of all rows of a pool, whose runs follow each other, or of one row."""
    writes = []
    for capacity in dict.fromkeys(run.capacity for run in runs):
        of_it = [run for run in runs if run.capacity == capacity]
        slots: list[int] = []
        entries: list[int] = []
        for run in of_it:
            if run.count == 1:
                slots += range(run.first, run.last)
                entries += run.entries
                continue
            for slot, entry in enumerate(run.entries, run.first):
                slots += [slot] * run.count
                entries += range(entry, entry + run.count)
        start = of_it[0].start
        if len(slots) > _ONE_BY_ONE:
            writes.append(Write(capacity, start, start + len(slots), mx.array(slots), mx.array(entries)))
            continue
        for at, (slot, entry) in enumerate(zip(slots, entries, strict=True), start):
            writes.append(Write(capacity, at, at + 1, slot, entry))
    return writes

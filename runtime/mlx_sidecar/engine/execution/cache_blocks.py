"""Converts mlx-lm's caches to segments and back, for every kind of cache that mlx-lm batches."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from ..cache.prefix_match import CacheSpec, SpanShape
from ..cache.prefixes import PrefixMatch
from ..cache.segment import BLOCK, Segment, Span, runs
from .interfaces import Cache, Model, has_entries, has_states, is_window, leaves, new_caches

# Recurrent states get a checkpoint after as many blocks as take about as much memory as they do, but at least this
# often, because tokens behind the last checkpoint are computed again.
_MOST_BLOCKS = 32
_LEAST_BLOCK_BYTES = 1 << 20


class CacheBlocks:
    """Takes the caches of a model apart and puts them together. ``because`` says why it cannot; "" if it can.

    Keys and values of layers that see equally far and have one shape share a span. A ``RotatingKVCache`` must be given
    as many entries as it has room for; an ``ArraysCache`` can go on only from a checkpoint.
    """

    def __init__(self, model: Model) -> None:
        """Run a token through ``model`` to see the contents of its caches."""
        caches = new_caches(model)
        mx.eval(model(mx.array([[0]]), cache=caches), [cache.state for cache in caches])
        self._leaves = list(leaves(caches))
        self.because = next(filter(None, map(_objection, self._leaves)), "")
        self._groups: list[list[tuple[int, int]]] = []
        window: list[int | None] = []
        shapes: tuple[SpanShape, ...] = ()
        if not self.because:
            groups = self._grouped()
            self._groups, window = list(groups.values()), [window for window, *_ in groups]
            shapes = tuple(SpanShape(len(of_it), *key[1:3], str(key[3])) for key, of_it in groups.items())
        checkpointed = [leaf for leaf in self._leaves if has_states(leaf)]
        states = tuple(
            None if array is None else (tuple(array.shape), str(array.dtype))
            for leaf in checkpointed
            for array in leaf.cache
        )
        self.spec = CacheSpec(tuple(window), bool(checkpointed), shapes, states)
        self._spacing = self._blocks_between(sum(leaf.nbytes for leaf in checkpointed)) * BLOCK

    def _grouped(self) -> dict[tuple[int | None, int, int, mx.Dtype], list[tuple[int, int]]]:
        """Return the spans' members: (window, heads, size, dtype) to (leaf, keys or values)."""
        groups: dict[tuple[int | None, int, int, mx.Dtype], list[tuple[int, int]]] = {}
        for number, leaf in enumerate(self._leaves):
            if not has_entries(leaf):
                continue
            window = leaf.max_size if is_window(leaf) else None
            for part, entries in enumerate((leaf.keys, leaf.values)):
                key = window, entries.shape[1], entries.shape[3], entries.dtype
                groups.setdefault(key, []).append((number, part))
        return groups

    def _blocks_between(self, mark_bytes: int) -> int:
        token_bytes = sum(leaf.nbytes // leaf.keys.shape[2] for leaf in self._leaves if has_entries(leaf))
        return max(1, min(_MOST_BLOCKS, mark_bytes // max(token_bytes * BLOCK, _LEAST_BLOCK_BYTES)))

    def stops(self, begin: int, end: int, branches: set[int], *, ends: bool) -> list[int]:
        """Return where a pass over tokens ``begin`` to ``end`` is to be cut for checkpoints of the states there.

        That is at regular distances, at ``branches``, and at the end of the last whole block if the prompt ``ends``.
        """
        if not self.spec.checkpoints or self.because:
            return []
        stops = set(range((begin // self._spacing + 1) * self._spacing, end, self._spacing))
        stops |= branches
        if ends:
            stops.add((end - 1) // BLOCK * BLOCK)
        return sorted(stop for stop in stops if begin < stop < end)

    def take(self, caches: Sequence[Cache], length: int, start: int, stop: int) -> list[Segment]:
        """Return tokens ``start`` to ``stop`` of caches that hold ``length``, as far as they hold them; lazily."""
        return [self._take(caches, length, *run) for run in runs(start, stop, self.spec.token_bytes)]

    def _take(self, caches: Sequence[Cache], length: int, start: int, stop: int) -> Segment:
        found = list(leaves(caches))
        spans = tuple(
            _span([_newest(found[leaf], part) for leaf, part in group], length, start, stop) for group in self._groups
        )
        states = (state for leaf in found if has_states(leaf) for state in leaf.cache)
        # Some are views of all that a pass has computed.
        checkpoints = (
            tuple(None if state is None else mx.contiguous(state) for state in states) if stop == length else ()
        )
        return Segment(start, stop, spans, checkpoints)

    def restore(self, caches: Sequence[Cache], match: PrefixMatch) -> None:
        """Let new ``caches`` hold the tokens of ``match``; lazily."""
        found = list(leaves(caches))
        for span, (group, window) in enumerate(zip(self._groups, self.spec.window, strict=True)):
            first = 0 if window is None else max(0, match.length - window)
            data = mx.concatenate([part for _, part in match.entries(span, first)], axis=2)
            for member, (leaf, part) in enumerate(group):
                _give(found[leaf], part, data[member : member + 1], match.length)
        checkpoints = iter(match.checkpoints)
        for states in found:
            if has_states(states):
                states.cache = [next(checkpoints) for _ in states.cache]


def _objection(leaf: Cache) -> str:
    """Return why a cache cannot be taken apart; "" if it can."""
    if has_states(leaf):
        return ""
    if not has_entries(leaf):
        return f"mlx-lm's {type(leaf).__name__} cannot be put together from blocks"
    if leaf.empty():
        return "a layer makes no use of its cache"
    if is_window(leaf) and leaf.keep:
        return "it keeps the first tokens of a prompt in a window that moves on"
    return ""


def _newest(leaf: Cache, part: int) -> mx.array:
    """Return keys (0) or values (1) [heads, tokens, size], in the order of tokens, up to the newest."""
    assert has_entries(leaf)
    entries = (leaf.keys, leaf.values)[part]
    if is_window(leaf):
        entries = leaf._temporal_order(entries)  # no public method gives it
        return entries[0, :, -min(leaf.offset, entries.shape[2]) :]
    return entries[0, :, : leaf.offset]


def _span(entries: list[mx.array], length: int, start: int, stop: int) -> Span:
    base = length - entries[0].shape[1]
    first = min(max(start, base), stop)
    return Span(first, mx.stack([each[:, first - base : stop - base] for each in entries]))


def _give(leaf: Cache, part: int, entries: mx.array, offset: int) -> None:
    """Let ``leaf`` hold ``entries`` [1, heads, tokens, size] as its newest, of ``offset`` in all."""
    assert has_entries(leaf)
    if part == 0:
        leaf.keys = entries
    else:
        leaf.values = entries
    leaf.offset = offset
    if is_window(leaf):
        leaf._idx = entries.shape[2]

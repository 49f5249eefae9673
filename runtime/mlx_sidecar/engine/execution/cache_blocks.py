"""From mlx-lm's caches to segments and back, for every kind of cache that mlx-lm batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import mlx.core as mx

from ..cache.prefix_match import CacheSpec, SpanShape
from ..cache.prefixes import PrefixMatch
from ..cache.segment import BLOCK, Segment, Span, runs
from .mlxlm import ArraysCache, KVCache, RotatingKVCache, make_prompt_cache

# States that are not one of tokens are marked at the end of as many blocks as take about as much memory as they do, but
# not more seldom than this: what lies behind the last mark is computed again.
_MOST_BLOCKS = 32
_LEAST_BLOCK_BYTES = 1 << 20


class CacheBlocks:
    """How the caches of a model are taken apart and put together. ``because`` says why they cannot be, "" if they can.

    Keys and values of layers that see equally far and have one shape share a span. A ``RotatingKVCache`` must be given
    as many entries as it has room for; an ``ArraysCache`` can go on only where its arrays were put aside: it is marked.
    """

    def __init__(self, model: Any) -> None:
        """Runs a token through ``model`` to see what its caches hold."""
        caches = make_prompt_cache(model)
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
        checkpointed = [leaf for leaf in self._leaves if type(leaf) is ArraysCache]
        states = tuple(
            None if array is None else (tuple(array.shape), str(array.dtype))
            for leaf in checkpointed
            for array in leaf.cache
        )
        self.spec = CacheSpec(tuple(window), bool(checkpointed), shapes, states)
        self._spacing = self._blocks_between(sum(leaf.nbytes for leaf in checkpointed)) * BLOCK

    def _grouped(self) -> dict[tuple[int | None, int, int, mx.Dtype], list[tuple[int, int]]]:
        """(window, heads, size, dtype) to (leaf, keys or values)."""
        groups: dict[tuple[int | None, int, int, mx.Dtype], list[tuple[int, int]]] = {}
        for number, leaf in enumerate(self._leaves):
            if type(leaf) is ArraysCache:
                continue
            window = leaf.max_size if type(leaf) is RotatingKVCache else None
            both: Any = leaf.keys, leaf.values
            for part, entries in enumerate(both):
                key = window, entries.shape[1], entries.shape[3], entries.dtype
                groups.setdefault(key, []).append((number, part))
        return groups

    def _blocks_between(self, mark_bytes: int) -> int:
        token_bytes: int = sum(
            leaf.nbytes // leaf.keys.shape[2] for leaf in self._leaves if type(leaf) in (KVCache, RotatingKVCache)
        )
        return max(1, min(_MOST_BLOCKS, mark_bytes // max(token_bytes * BLOCK, _LEAST_BLOCK_BYTES)))

    def stops(self, begin: int, end: int, branches: set[int], *, ends: bool) -> list[int]:
        """Where a pass over tokens ``begin`` to ``end`` is to be cut so that the states there can be marked: at regular
        distances, at ``branches``, and where the last whole block of a prompt that ``ends`` with it does."""
        if not self.spec.checkpoints or self.because:
            return []
        stops = set(range((begin // self._spacing + 1) * self._spacing, end, self._spacing))
        stops |= branches
        if ends:
            stops.add((end - 1) // BLOCK * BLOCK)
        return sorted(stop for stop in stops if begin < stop < end)

    def take(self, caches: list[Any], length: int, start: int, stop: int) -> list[Segment]:
        """Tokens ``start`` to ``stop`` of caches that hold ``length``, as far as they hold them; lazily."""
        return [self._take(caches, length, *run) for run in runs(start, stop, self.spec.token_bytes)]

    def _take(self, caches: list[Any], length: int, start: int, stop: int) -> Segment:
        found = list(leaves(caches))
        spans = tuple(
            _span([_entries(found[leaf], part) for leaf, part in group], length, start, stop) for group in self._groups
        )
        states = (state for leaf in found if type(leaf) is ArraysCache for state in leaf.cache)
        # Some are views of all that a pass has computed.
        checkpoints = (
            tuple(None if state is None else mx.contiguous(state) for state in states) if stop == length else ()
        )
        return Segment(start, stop, spans, checkpoints)

    def restore(self, caches: list[Any], match: PrefixMatch) -> None:
        """Let new ``caches`` hold what is in ``match``; lazily."""
        found = list(leaves(caches))
        for span, (group, window) in enumerate(zip(self._groups, self.spec.window, strict=True)):
            first = 0 if window is None else max(0, match.length - window)
            data = mx.concatenate([part for _, part in match.entries(span, first)], axis=2)
            for member, (leaf, part) in enumerate(group):
                _give(found[leaf], part, data[member : member + 1], match.length)
        checkpoints = iter(match.checkpoints)
        for leaf in found:
            if type(leaf) is ArraysCache:
                leaf.cache = [next(checkpoints) for _ in leaf.cache]


def leaves(caches: Iterable[Any]) -> Iterator[Any]:
    """The caches themselves: some layers hold a list of them."""
    for cache in caches:
        if hasattr(cache, "caches"):
            yield from leaves(cache.caches)
        else:
            yield cache


def _objection(leaf: Any) -> str:
    """Why a cache cannot be taken apart; "" if it can."""
    if type(leaf) is ArraysCache:
        return ""
    if type(leaf) in (KVCache, RotatingKVCache) and leaf.keys is None:
        return "a layer makes no use of its cache"
    if type(leaf) is KVCache:
        return ""
    if type(leaf) is RotatingKVCache:
        return "it keeps the first tokens of a prompt in a window that moves on" if leaf.keep else ""
    return f"mlx-lm's {type(leaf).__name__} cannot be put together from blocks"


def _entries(leaf: Any, part: int) -> mx.array:
    """Keys (0) or values (1) [heads, tokens, size], in the order of tokens, up to the newest."""
    entries: mx.array = (leaf.keys, leaf.values)[part]
    if type(leaf) is RotatingKVCache:
        entries = leaf._temporal_order(entries)  # there is no other door
        return entries[0, :, -min(leaf.offset, entries.shape[2]) :]
    return entries[0, :, : leaf.offset]


def _span(entries: list[mx.array], length: int, start: int, stop: int) -> Span:
    base = length - entries[0].shape[1]
    first = min(max(start, base), stop)
    return Span(first, mx.stack([each[:, first - base : stop - base] for each in entries]))


def _give(leaf: Any, part: int, entries: mx.array, offset: int) -> None:
    """Let ``leaf`` hold ``entries`` [1, heads, tokens, size] as its newest, of ``offset`` in all."""
    if part == 0:
        leaf.keys = entries
    else:
        leaf.values = entries
    leaf.offset = offset
    if type(leaf) is RotatingKVCache:
        leaf._idx = entries.shape[2]

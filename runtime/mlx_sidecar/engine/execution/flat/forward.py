"""One pass over a flat list of tokens.

To the model every token is a batch row of its own, of length 1 and with its own position; so its linear layers see one
matrix of all tokens, whoever they belong to, and nothing is ever padded. Attention, the only layer that must know,
is replaced: see ``LayerCache``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import mlx.core as mx

from ....link.control_messages import ForwardName
from ...cache.prefix_match import CacheSpec, SpanShape
from ...cache.prefixes import NOTHING, PrefixMatch
from ...cache.segment import Segment, Span, runs
from ..forward import Part
from .cache import LayerCache
from .head import Head
from .layout import Layout
from .plan import Chunk, Op
from .pools import Shape, memory
from .step import Step


class _Kind(NamedTuple):
    """Layers that see equally far, by their numbers."""

    layout: Layout
    layers: list[int]


class _Group(NamedTuple):
    """What lies in one span of a segment: keys (0) or values (1) of layers of a kind that have one shape."""

    kind: int
    members: list[tuple[int, int]]  # layer, and which of the two


class FlatForward:
    """``Forward`` for a model whose caches are all ``KVCache`` or ``RotatingKVCache`` with nothing kept in front."""

    name: ForwardName = "flat"
    uncacheable = ""
    cached_upto = False

    def __init__(self, model: Any, caches: list[Any]) -> None:
        """``caches`` are mlx-lm's own for ``model``, after a token or more: they tell what a layer stores.

        Changes the classes of the model's output projections until ``restore``.
        """
        self._model = model
        self._head = Head(model)
        self._shapes = [_shape(cache) for cache in caches]
        self._windows = [getattr(cache, "max_size", 0) for cache in caches]
        self.reset()
        self._groups = list(self._grouped())
        windows = [self._kinds[group.kind].layout.window for group in self._groups]
        shapes = tuple(self._span_shape(group) for group in self._groups)
        self.spec = CacheSpec(tuple(window - 1 if window else None for window in windows), shapes=shapes)

    def reset(self) -> None:
        windows = self._windows
        self._caches = [LayerCache(shape) for shape in self._shapes]
        # The kind with most layers comes first: its order of rows is that of the step's tokens.
        self._kinds = [
            _Kind(Layout(window), [i for i, other in enumerate(windows) if other == window])
            for window in sorted(set(windows), key=windows.count, reverse=True)
        ]
        self._chunks: dict[int, list[Chunk]] = {}  # of the last step, by row: one for each kind
        self._touched: list[mx.array] = []

    def restore(self) -> None:
        """Leave the model as it was; nothing runs afterwards."""
        self._head.restore()

    def _grouped(self) -> Iterator[_Group]:
        for number, kind in enumerate(self._kinds):
            members: dict[tuple[int, int, mx.Dtype], list[tuple[int, int]]] = {}
            for layer in kind.layers:
                shape = self._shapes[layer]
                for part, size in enumerate((shape.key, shape.value)):
                    members.setdefault((shape.heads, size, shape.dtype), []).append((layer, part))
            yield from (_Group(number, alike) for alike in members.values())

    def _span_shape(self, group: _Group) -> SpanShape:
        layer, part = group.members[0]
        shape = self._shapes[layer]
        return SpanShape(len(group.members), shape.heads, (shape.key, shape.value)[part], str(shape.dtype))

    def open(self, row: int, expected: int, match: PrefixMatch = NOTHING) -> None:
        for kind in self._kinds:
            base = max(0, match.length - kind.layout.window + 1) if kind.layout.window else 0
            kind.layout.open(row, expected + 1, base, match.length)
        if not match.length:
            return
        for kind in self._kinds:
            self._apply(kind, kind.layout.prepare([]))
        # Memory that is written to must not be read any more: the slot may have been somebody's a moment ago.
        mx.synchronize()
        for span, group in enumerate(self._groups):
            place = self._kinds[group.kind].layout[row]
            for start, entries in match.entries(span, place.base):
                data = memory(entries)
                for member, (layer, part) in enumerate(group.members):
                    pools = self._caches[layer].pools
                    pools.put(part, place.capacity, place.slot, start - place.base, data[member])
        mx.async_eval(self._arrays(range(len(self._caches))))

    def checkpoint_at(self, row: int, position: int) -> None:
        """A row can be gone on from wherever its entries are."""

    def close(self, row: int) -> None:
        self._chunks.pop(row, None)
        for kind in self._kinds:
            kind.layout.close(row)
            if not kind.layout.rows:  # no step may follow in which the pools would go
                self._apply(kind, kind.layout.prepare([]))
                self._touched = []
                for layer in kind.layers:
                    self._caches[layer].rest()

    def capture(self, row: int, start: int, stop: int) -> list[Segment]:
        segments = [
            Segment(begin, end, tuple(self._span(row, group, begin, end) for group in self._groups))
            for begin, end in runs(start, stop, self.spec.token_bytes)
        ]
        # Before the next step writes to the pools.
        mx.async_eval([span.data for segment in segments for span in segment.spans])
        return segments

    def _span(self, row: int, group: _Group, start: int, stop: int) -> Span:
        """A copy of what is there of the row's tokens ``start`` to ``stop``: where a layer has a window, the last."""
        place = self._kinds[group.kind].layout[row]
        chunk = self._chunks[row][group.kind] if row in self._chunks else None
        if chunk is not None and chunk.spills:  # the slot has the end of it only
            pairs = [self._caches[layer].spilled(chunk) for layer, _ in group.members]
            base = place.length - pairs[0].keys.shape[2]
            first = min(max(start, base), stop)
            entries = [
                pair[part][0, :, first - base : stop - base]
                for pair, (_, part) in zip(pairs, group.members, strict=True)
            ]
        else:
            first = min(max(start, place.base), stop)
            where = place.capacity, place.slot, first - place.base, stop - place.base
            entries = [self._caches[layer].pools.get(part, *where) for layer, part in group.members]
        # A stack of one would be another view of the pool.
        return Span(first, mx.stack(entries) if len(entries) > 1 else (entries[0] * 1)[None])

    @property
    def reclaimable_bytes(self) -> int:
        """The slots that nobody is in."""
        token_bytes = [shape.token_bytes for shape in self._shapes]
        return sum(kind.layout.slack * sum(token_bytes[layer] for layer in kind.layers) for kind in self._kinds)

    def release(self) -> None:
        for kind in self._kinds:
            kind.layout.tighten()
            self._apply(kind, kind.layout.prepare([]))

    @property
    def state(self) -> list[mx.array]:
        return self._touched

    def run(self, parts: list[Part], tokens: mx.array) -> mx.array:
        lengths = [(part.row, part.tokens) for part in parts]
        for kind in self._kinds:
            self._apply(kind, kind.layout.prepare(lengths))
        order = self._plan(parts, lengths)
        sources = _sources(parts, order)
        if sources != list(range(len(sources))):
            tokens = tokens[mx.array(sources)]
        logits = self._logits(tokens[:, None], _sampling(parts, order), len(sources))
        self._touched = self._arrays_of_step()
        return logits

    def _logits(self, tokens: mx.array, rows: list[int], total: int) -> mx.array:
        """``rows``: which tokens sample, in the order of the answer."""
        if rows == list(range(total)) or not rows:
            logits: mx.array = self._model(tokens, cache=self._caches)[:, -1]
            # Where none samples, what was built for all is never computed.
            return logits if rows else mx.zeros((0, logits.shape[-1]), logits.dtype)
        index = mx.array(rows)
        return self._head.run(lambda x: x[index], tokens, self._caches)[:, -1]

    def _plan(self, parts: list[Part], lengths: list[tuple[int, int]]) -> list[int]:
        """Make the step of each kind. Returns the parts in the order in which their tokens are passed to the model."""
        first = self._kinds[0].layout
        starts = [first[row].length for row, _ in lengths]
        order: list[int] = []
        offset = None
        self._chunks = {row: [] for row, count in lengths if count > 1}
        for kind in self._kinds:
            plan = kind.layout.plan(lengths)
            for row, chunk in zip(self._chunks, plan.chunks, strict=True):
                self._chunks[row].append(chunk)
            if offset is None:
                order = plan.order + [i for i, part in enumerate(parts) if part.tokens > 1]
                offset = mx.array([at for i in order for at in range(starts[i], starts[i] + parts[i].tokens)])
            same = plan.order == order[: len(plan.order)]
            where = {part: i for i, part in enumerate(order)}
            step = Step(plan, offset, kind.layout.window, None if same else [where[part] for part in plan.order])
            for layer in kind.layers:
                self._caches[layer].step = step
        return order

    def _apply(self, kind: _Kind, ops: list[Op]) -> None:
        if not ops:
            return
        for layer in kind.layers:
            self._caches[layer].pools.apply(ops)
        # Copies out of a pool should be done before it is written to, or all of it is copied.
        mx.async_eval(self._arrays(kind.layers))

    def _arrays(self, layers: Iterable[int]) -> list[mx.array]:
        return [array for layer in layers for array in self._caches[layer].pools.arrays]

    def _arrays_of_step(self) -> list[mx.array]:
        return [array for cache in self._caches for array in cache.written]


def _shape(cache: Any) -> Shape:
    _, heads, _, key = cache.keys.shape
    return Shape(heads, key, cache.values.shape[3], cache.keys.dtype)


def _sources(parts: list[Part], order: list[int]) -> list[int]:
    """Where in the caller's tokens those of the parts in ``order`` are."""
    starts = list(accumulate((part.tokens for part in parts), initial=0))
    return [at for i in order for at in range(starts[i], starts[i + 1])]


def _sampling(parts: list[Part], order: list[int]) -> list[int]:
    """Where among the tokens in ``order`` the last of each sampling part is, part by part."""
    last: dict[int, int] = {}
    end = 0
    for i in order:
        end += parts[i].tokens
        last[i] = end - 1
    return [last[i] for i, part in enumerate(parts) if part.samples]

"""The flat forward makes one pass over a flat list of tokens.

To the model every token is a batch row of its own, of length 1 and with its own position. So its linear layers see one
matrix of all tokens, whichever rows they are of, and nothing is ever padded. Attention, the only layer for which the
row matters, is replaced (``LayerCache``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import mlx.core as mx

from ....link.control_messages import ForwardName
from ...cache.prefix_match import CacheSpec, SpanShape
from ...cache.prefixes import NOTHING, PrefixMatch
from ...cache.segment import Segment, Span, runs
from ..forward import Hidden, Logits, NotTruncatable, Part, StepInput, StepOutput
from ..interfaces import Entries, Model
from .adapters import FlatAdapters
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
    """The members of one span of a segment: keys (0) or values (1) of layers of a kind that have one shape."""

    kind: int
    members: list[tuple[int, int]]  # layer, and which of the two


class FlatForward:
    """``Forward`` for a model whose caches are all ``KVCache`` or ``RotatingKVCache`` with nothing kept in front."""

    name: ForwardName = "flat"
    uncacheable = untruncatable = ""
    computes_apart = captured = False

    def __init__(self, model: Model, caches: Sequence[Entries]) -> None:
        """Read from ``caches``, mlx-lm's own for ``model`` after a token or more, the shapes that layers store.

        Changes the classes of the model's output projections until ``restore``.
        """
        self._model = model
        self.adapted_rows = FlatAdapters(model)
        self._head = Head(model)
        self._shapes = [_shape(cache) for cache in caches]
        self._windows = [getattr(cache, "max_size", 0) for cache in caches]
        self.reset()
        self._groups = list(self._grouped())
        windows = [self._kinds[group.kind].layout.window for group in self._groups]
        shapes = tuple(self._span_shape(group) for group in self._groups)
        self.spec = CacheSpec(tuple(window - 1 if window else None for window in windows), shapes=shapes)

    def reset(self) -> None:
        self.adapted_rows.reset()
        windows = self._windows
        self._caches = [LayerCache(shape) for shape in self._shapes]
        # The kind with most layers comes first: its order of rows is that of the step's tokens.
        self._kinds = [
            _Kind(Layout(window), [i for i, other in enumerate(windows) if other == window])
            for window in sorted(set(windows), key=windows.count, reverse=True)
        ]
        self._spilled: dict[tuple[int, int], Chunk] = {}  # of the last step, by row and number of the kind

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
        # Memory that is written to must not be read any more: the slot may have been another row's a moment ago.
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
        """Do nothing, because other rows can go on wherever there are entries."""

    def close(self, row: int) -> None:
        self.adapted_rows.close(row)
        for number, kind in enumerate(self._kinds):
            self._spilled.pop((row, number), None)
            kind.layout.close(row)
            if not kind.layout.rows:  # no step may follow in which the pools would go
                self._apply(kind, kind.layout.prepare([]))
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
        """Return a copy of the row's tokens ``start`` to ``stop``: where a layer has a window, of the last of them."""
        place = self._kinds[group.kind].layout[row]
        if chunk := self._spilled.get((row, group.kind)):  # the slot has the end of it only
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
        """Bytes of slots that no row is in."""
        token_bytes = [shape.token_bytes for shape in self._shapes]
        return sum(kind.layout.slack * sum(token_bytes[layer] for layer in kind.layers) for kind in self._kinds)

    def release(self) -> None:
        for kind in self._kinds:
            kind.layout.tighten()
            self._apply(kind, kind.layout.prepare([]))

    def run(self, step: StepInput) -> StepOutput:
        parts, tokens = step
        lengths = [(part.row, part.tokens) for part in parts]
        for kind in self._kinds:
            self._apply(kind, kind.layout.prepare(lengths))
        order = self._plan(lengths)
        starts = list(accumulate((part.tokens for part in parts), initial=0))
        sources = [at for i in order for at in range(starts[i], starts[i + 1])]
        if sources != list(range(len(sources))):
            tokens = tokens[mx.array(sources)]
        rows, hidden_rows = _wanted(parts, order, Logits), _wanted(parts, order, Hidden)
        hidden = None
        with self.adapted_rows.applied([lengths[i] for i in order]):
            if hidden_rows:
                logits, hidden = self._hidden(tokens[:, None], rows, hidden_rows)
            else:
                logits = self._logits(tokens[:, None], rows, len(sources))
        return StepOutput(logits, [array for cache in self._caches for array in cache.written], hidden)

    def truncate(self, row: int, length: int) -> None:
        layouts = [kind.layout for kind in self._kinds]
        if not all(layout[row].floor <= length <= layout[row].length for layout in layouts):
            raise NotTruncatable(f"a row of {layouts[0][row].length} tokens cannot be taken back to {length}")
        for layout in layouts:
            layout.truncate(row, length)

    def _logits(self, tokens: mx.array, rows: list[int], total: int) -> mx.array:
        """Return the logits of ``rows``, which are tokens, in this order."""
        if rows == list(range(total)) or not rows:
            logits = self._model(tokens, cache=self._caches)[:, -1]
            # Where none is wanted, the logits of all are never computed.
            return logits if rows else mx.zeros((0, logits.shape[-1]), logits.dtype)
        index = mx.array(rows)
        return self._head.run(lambda x: x[index], tokens, self._caches)[:, -1]

    def _hidden(self, tokens: mx.array, rows: list[int], hidden_rows: list[int]) -> tuple[mx.array, mx.array]:
        """Return the logits of ``rows`` and the hidden states of ``hidden_rows``, which are tokens, in this order."""
        index = mx.array(rows or [0])  # a projection of nothing is avoided
        logits, states = self._head.run_with_states(lambda x: x[index], tokens, self._caches)
        return logits[: len(rows), -1], states[mx.array(hidden_rows), -1]

    def _plan(self, lengths: list[tuple[int, int]]) -> list[int]:
        """Make the step of each kind. Returns the parts in the order in which their tokens are passed to the model."""
        positions = [self._kinds[0].layout[row].length for row, _ in lengths]
        order: list[int] = []
        starts = [0] * len(lengths)
        offset = None
        self._spilled.clear()
        for number, kind in enumerate(self._kinds):
            plan = kind.layout.plan(lengths)
            if offset is None:
                order = plan.sequence
                offset = mx.array([at for i in order for at in range(positions[i], positions[i] + lengths[i][1])])
                for i, start in zip(order, accumulate((lengths[i][1] for i in order), initial=0), strict=False):
                    starts[i] = start
            self._spilled |= {(lengths[chunk.part][0], number): chunk for chunk in plan.chunks if chunk.spills}
            step = Step(plan, starts, offset, kind.layout.window, in_order=plan.sequence == order)
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


def _shape(cache: Entries) -> Shape:
    _, heads, _, key = cache.keys.shape
    return Shape(heads, key, cache.values.shape[3], cache.keys.dtype)


def _wanted(parts: list[Part], order: list[int], kind: type[Logits | Hidden]) -> list[int]:
    """Return the places, among the tokens in ``order``, of those of which this ``kind`` is wanted, part by part."""
    ends: dict[int, int] = {}
    end = 0
    for i in order:
        end += parts[i].tokens
        ends[i] = end
    wishes = [(i, part.want.last) for i, part in enumerate(parts) if isinstance(part.want, kind)]
    return [at for i, last in wishes for at in range(ends[i] - last, ends[i])]

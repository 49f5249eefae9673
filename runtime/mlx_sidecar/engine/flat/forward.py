"""One pass over a flat list of tokens.

To the model every token is a batch row of its own, of length 1 and with its own position; so its linear layers see one
matrix of all tokens, whoever they belong to, and nothing is ever padded. Attention, the only layer that must know,
is replaced: see ``LayerCache``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NamedTuple

import mlx.core as mx

from ..forward import Part
from ..kept import Kept, Shelf
from .cache import LayerCache
from .head import Head
from .layout import Layout
from .plan import Op
from .pools import Pair, Shape
from .step import Step


class _Kind(NamedTuple):
    """Layers that see equally far, by their numbers."""

    layout: Layout
    layers: list[int]


class _Row(NamedTuple):
    """A kept row: the position of its first entry in each kind of layer, and its entries in each layer."""

    bases: list[int]
    pairs: list[Pair]


class FlatForward:
    """``Forward`` for a model whose caches are all ``KVCache`` or ``RotatingKVCache`` with nothing kept in front."""

    def __init__(self, model: Any, caches: list[Any]) -> None:
        """``caches`` are mlx-lm's own for ``model``, after a token or more: they tell what a layer stores.

        Changes the classes of the model's output projections until ``restore``.
        """
        self._model = model
        self._head = Head(model)
        self._shapes = [_shape(cache) for cache in caches]
        self._windows = [getattr(cache, "max_size", 0) for cache in caches]
        self.reset()

    def reset(self) -> None:
        windows = self._windows
        self._caches = [LayerCache(shape) for shape in self._shapes]
        # The kind with most layers comes first: its order of rows is that of the step's tokens.
        self._kinds = [
            _Kind(Layout(window), [i for i, other in enumerate(windows) if other == window])
            for window in sorted(set(windows), key=windows.count, reverse=True)
        ]
        self._shelf: Shelf[_Row] = Shelf(self._usable)
        self._touched: list[mx.array] = []

    def restore(self) -> None:
        """Leave the model as it was; nothing runs afterwards."""
        self._head.restore()

    def open(self, row: int, tokens: list[int]) -> int:
        found = self._shelf.find(tokens)
        if found is None:
            for kind in self._kinds:
                kind.layout.open(row, len(tokens) + 1)
            return 0
        kept, count = found
        for kind, base in zip(self._kinds, kept.bases, strict=True):
            kind.layout.open(row, len(tokens) + 1, base, count)
            self._apply(kind, kind.layout.prepare([]))
            place = kind.layout[row]
            for layer in kind.layers:
                keys, values = kept.pairs[layer]
                pair = Pair(keys[:, :, : place.held], values[:, :, : place.held])
                self._caches[layer].pools.fill(place.capacity, place.slot, pair)
        mx.async_eval(self._arrays(range(len(self._caches))))
        return count

    def close(self, row: int, keep: list[int] | None = None) -> None:
        if keep and self._shelf.wants(keep):
            self._keep(row, keep)
        for kind in self._kinds:
            kind.layout.close(row)
            if not kind.layout.rows:  # no step may follow in which the pools would go
                self._apply(kind, kind.layout.prepare([]))
                self._touched = []
                for layer in kind.layers:
                    self._caches[layer].rest()

    def _keep(self, row: int, tokens: list[int]) -> None:
        bases = [kind.layout[row].base for kind in self._kinds]
        if not self._reaches(bases, len(tokens)):
            return
        pairs: dict[int, Pair] = {}
        for kind in self._kinds:
            place = kind.layout[row]
            for layer in kind.layers:
                pairs[layer] = self._caches[layer].pools.cut(place.capacity, place.slot, len(tokens) - place.base)
        kept = _Row(bases, [pairs[i] for i in range(len(pairs))])
        arrays = [array for pair in kept.pairs for array in pair]
        # Before the next step writes to the pools.
        mx.async_eval(arrays)
        self._shelf.put(Kept(list(tokens), kept, sum(array.nbytes for array in arrays)))

    def _usable(self, kept: Kept[_Row], count: int) -> bool:
        return self._reaches(kept.row.bases, count)

    def _reaches(self, bases: list[int], count: int) -> bool:
        """Whether all that the token after the first ``count`` sees is there, where entries start at ``bases``."""
        return all(
            base == 0 or count - base >= kind.layout.window - 1 for kind, base in zip(self._kinds, bases, strict=True)
        )

    @property
    def kept_bytes(self) -> int:
        """Kept rows, and the slots that nobody is in."""
        token_bytes = [shape.token_bytes for shape in self._shapes]
        slack = (kind.layout.slack * sum(token_bytes[layer] for layer in kind.layers) for kind in self._kinds)
        return self._shelf.nbytes + sum(slack)

    def release(self) -> None:
        self._shelf.clear()
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
        for kind in self._kinds:
            plan = kind.layout.plan(lengths)
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

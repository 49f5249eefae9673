"""The merged forward serves models that the flat one does not: it merges mlx-lm's own caches while rows decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import cast

import mlx.core as mx
from mlx.utils import tree_flatten

from ...link.control_messages import ForwardName
from ..cache.prefixes import NOTHING, PrefixMatch
from ..cache.segment import BLOCK, Segment
from ..core.adapter import AdaptedRows
from .cache_blocks import CacheBlocks
from .flat.head import Head
from .forward import NotTruncatable, Part, StepInput, StepOutput
from .interfaces import Cache, Mergeable, Merged, Model, has_states, is_trimmable, leaves, new_caches


@dataclass(slots=True)
class _Row:
    """A row of ``length`` tokens, of which those from ``floor`` on came with its last part.

    ``caches`` has one for each layer, none while the row is in the batch. ``taken`` are segments from token ``start``
    on, up to positions where a row can go on; ``branches`` are to be such positions.
    """

    caches: Sequence[Cache]
    length: int = 0
    floor: int = 0
    start: int = 0
    branches: set[int] = field(default_factory=set)
    taken: list[Segment] = field(default_factory=list)


class MergedForward:
    """``Forward`` for any model of mlx-lm.

    A row has caches of its own and is passed by itself until it decodes beside others. Those that do are merged into
    one batch and passed as one, and a row that pauses is taken out again. Without ``batchable`` rows are never merged.
    """

    adapted_rows: AdaptedRows | None = None

    def __init__(self, model: Model, *, batchable: bool) -> None:
        """Change the classes of the model's output projections until ``restore``."""
        self._model = model
        self._batchable = batchable
        self.name: ForwardName = "merged" if batchable else "row_by_row"
        self._head = Head(model)
        self._blocks = CacheBlocks(model)
        self.spec = self._blocks.spec
        self.uncacheable = self._blocks.because
        self.untruncatable = next(filter(None, map(_objection, leaves(new_caches(model)))), "")
        self.computes_apart = self.captured = False
        self.reset()

    def reset(self) -> None:
        self._rows: dict[int, _Row] = {}
        self._batch: list[Merged] = []  # merged caches, one for each layer
        self._members: list[int | None] = []  # the rows of the batch in its order; None where one was closed

    def restore(self) -> None:
        """Leave the model as it was; nothing runs afterwards."""
        self._head.restore()

    def open(self, row: int, expected: int, match: PrefixMatch = NOTHING) -> None:
        caches = new_caches(self._model)
        if match.length:
            self._blocks.restore(caches, match)
        self._rows[row] = _Row(caches, match.length, match.length, match.length // BLOCK * BLOCK)

    def checkpoint_at(self, row: int, position: int) -> None:
        self._rows[row].branches.add(position)

    def close(self, row: int) -> None:
        if row in self._members:
            self._members[self._members.index(row)] = None
        del self._rows[row]
        if not self._rows:
            self._regroup([])

    def capture(self, row: int, start: int, stop: int) -> list[Segment]:
        own = self._rows[row]
        segments, own.taken = own.taken, []
        start = segments[-1].stop // BLOCK * BLOCK if segments else start
        if start < stop:
            caches = self._extract(row) if row in self._members else own.caches
            segments += self._blocks.take(caches, own.length, start, stop)
        own.start = stop // BLOCK * BLOCK
        mx.async_eval(_arrays_of(segments))
        return segments

    @property
    def reclaimable_bytes(self) -> int:
        return 0

    def release(self) -> None:
        """Do nothing, because rows that were closed leave nothing."""

    def run(self, step: StepInput) -> StepOutput:
        parts, tokens = step
        together = self._together(parts)
        self._regroup([parts[i].row for i in together])
        starts = list(accumulate((part.tokens for part in parts), initial=0))
        passed: dict[int, mx.array] = {}  # by part: logits [those wanted, but at least one, vocabulary]
        touched: list[Cache] = []
        for i, part in enumerate(parts):
            if i not in together:
                passed[i] = self._pass_alone(part, tokens[None, starts[i] : starts[i + 1]])
                touched += self._rows[part.row].caches
        if together:
            where = {parts[i].row: i for i in together}
            order = [where[row] for row in self._members if row is not None]
            logits = self._pass_batch(tokens[mx.array([starts[i] for i in order])])
            passed |= zip(order, mx.split(logits, len(order)), strict=True)
            touched += self._batch
        for part in parts:
            own = self._rows[part.row]
            own.floor, own.length = own.length, own.length + part.tokens
        wanted = [passed[i] for i, part in enumerate(parts) if part.want.last]
        logits = mx.concatenate(wanted) if wanted else mx.zeros((0, passed[0].shape[-1]), passed[0].dtype)
        return StepOutput(logits, _arrays(touched))

    def truncate(self, row: int, length: int) -> None:
        own = self._rows[row]
        if self.untruncatable:
            raise NotTruncatable(self.untruncatable)
        if not own.floor <= length <= own.length:
            raise NotTruncatable(f"a row of {own.length} tokens cannot be taken back to {length}")
        if length == own.length:
            return
        if row in self._members:  # whose rows end together
            own.caches = self._extract(row)
            self._members[self._members.index(row)] = None
        for leaf in leaves(own.caches):
            assert is_trimmable(leaf)
            leaf.trim(own.length - length)
        own.length = length

    def _together(self, parts: list[Part]) -> list[int]:
        """Return the parts that are passed as one.

        No row joins before it holds something, because mlx-lm's empty caches do not merge well. A single row gains
        nothing by it.
        """
        if not self._batchable:
            return []
        ready = [i for i, part in enumerate(parts) if part.tokens == 1 and self._rows[part.row].length]
        return ready if len(ready) > 1 or any(parts[i].row in self._members for i in ready) else []

    def _pass_alone(self, part: Part, tokens: mx.array) -> mx.array:
        own, last = self._rows[part.row], part.want.last
        begin, end = own.length, own.length + part.tokens
        stops = self._blocks.stops(begin, end, own.branches, ends=bool(last)) if self.captured else []
        found: list[mx.array] = []
        for stop in [*stops, end]:
            wanted = stop - max(begin, end - last)
            logits = self._pass(own, tokens[:, begin - own.length : stop - own.length], max(1, wanted))
            if wanted > 0 or stop == end:
                found.append(logits)
            if stop < end:
                taken = self._blocks.take(own.caches, stop, own.start, stop)
                # Else the next pass could not write in place, and copied all keys and values for each of these.
                mx.eval(_arrays_of(taken), _arrays(own.caches))
                own.taken += taken
                own.start = begin = stop
        return found[0] if len(found) == 1 else mx.concatenate(found)

    def _pass(self, own: _Row, tokens: mx.array, last: int) -> mx.array:
        """Pass ``tokens`` [1, tokens]; return the logits after the ``last`` of them, [last, vocabulary]."""
        return self._head.run(lambda x: x[:, -last:], tokens, own.caches)[0]

    def _pass_batch(self, tokens: mx.array) -> mx.array:
        logits: mx.array = self._model(tokens[:, None], cache=self._batch)[:, -1]
        return logits

    def _regroup(self, rows: list[int]) -> None:
        """Make the batch hold exactly ``rows``."""
        for row in self._members:
            if row is not None and row not in rows:
                self._rows[row].caches = self._extract(row)
        stay = [i for i, row in enumerate(self._members) if row in rows]
        if not stay:
            self._batch = []
        elif len(stay) < len(self._members):
            for cache in self._batch:
                cache.filter(stay)
        self._members = [self._members[i] for i in stay]
        if joining := [row for row in rows if row not in self._members]:
            self._join(joining)

    def _join(self, rows: list[int]) -> None:
        layers = zip(*(self._rows[row].caches for row in rows), strict=True)
        merged = [caches[0].merge(list(caches)) for caches in layers]
        for cache, other in zip(self._batch, merged, strict=False):
            cache.extend(other)
        self._batch = self._batch or merged
        self._members += rows
        for row in rows:
            self._rows[row].caches = []

    def _extract(self, row: int) -> list[Mergeable]:
        caches = [cache.extract(self._members.index(row)) for cache in self._batch]
        for cache in leaves(caches):
            if has_states(cache):
                # Else the row's state would hold on to that of the whole batch.
                cache.cache = [array if array is None else mx.contiguous(array) for array in cache.cache]
        return caches


def _objection(leaf: Cache) -> str:
    """Return why the tokens of a pass cannot be taken out of a cache; "" if they can."""
    because = f"mlx-lm's {type(leaf).__name__} keeps nothing of what a token takes the place of"
    return "" if is_trimmable(leaf) else because


def _arrays_of(segments: list[Segment]) -> list[mx.array]:
    spans = [span.data for segment in segments for span in segment.spans]
    return spans + [checkpoint for segment in segments for checkpoint in segment.checkpoints if checkpoint is not None]


def _arrays(caches: Sequence[Cache]) -> list[mx.array]:
    found = cast("list[tuple[str, object]]", tree_flatten([cache.state for cache in caches]))
    return [leaf for _, leaf in found if isinstance(leaf, mx.array)]

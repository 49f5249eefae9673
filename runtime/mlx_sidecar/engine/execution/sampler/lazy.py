"""Sampling by mlx: the rows of a step in groups, and nothing is evaluated."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import mlx.core as mx

from .filters import Filter, FilterKind, column
from .logits_processors import BoundProcessors, LogitsProcessor, changed_rows
from .logprobs import Asked, Sampled
from .masks import NO_MASKS, Mask, masked_logits, places_of
from .noise import gumbel_over, key
from .rows import Row, Rows

# Dropped tokens lose by this much: more than noise can make up for.
_OUT = 1e30


class LazyPlan:
    """How to sample these rows in this order.

    They are grouped by the work that they need, so that no row pays for the parameters of another.
    """

    def __init__(
        self,
        rows: list[int],
        members: list[Row],
        processors: Sequence[LogitsProcessor],
        vocabulary: int,
        masked: Collection[int] = (),
    ) -> None:
        """The rows of ``masked`` come with a mask."""
        self.rows = rows
        self.masked = frozenset(masked)
        kinds: dict[FilterKind | None, list[int]] = {}
        for index, member in enumerate(members):
            kinds.setdefault(member.filter_kind, []).append(index)
        changed = changed_rows(rows, members)
        self._processors = BoundProcessors(processors, changed, len(rows))
        processed = [row.place for row in changed]
        masked_only = places_of(rows, masked, without=processed)
        self._processed, self._masked_only = bool(processed), Rows(masked_only, len(rows))
        places = processed + masked_only
        self._changed_rows = [rows[place] for place in places]
        self._groups = [_Group(kind, indices, places, members) for kind, indices in kinds.items()]
        self._asked = Asked([member.sampling.logprobs for member in members], vocabulary)
        self._gumbel = gumbel_over(vocabulary)
        order = [index for group in self._groups for index in group.indices]
        back = sorted(range(len(order)), key=order.__getitem__)
        self._order = None if back == order == sorted(order) else mx.array(back)

    def sample(
        self, positions: list[int], logits: mx.array, masks: Mapping[int, Mask] = NO_MASKS, *, accepts: bool = True
    ) -> Sampled:
        """Sample from ``logits`` [rows, vocabulary]; ``positions`` are those of the tokens to sample."""
        changed = self._changed(logits, masks)
        sampled = [group.sample(logits, changed, self._noise(group, positions)) for group in self._groups]
        tokens, peaks = (_together([each[part] for each in sampled]) for part in (0, 1))
        if self._order is not None:
            tokens, peaks = tokens[self._order], peaks[self._order]
        read = self.accept(tokens) if accepts else []
        return Sampled(tokens, peaks, self._asked.rows, self._asked.of(logits, tokens), self._asked.alternatives, read)

    def accept(self, tokens: mx.array) -> list[mx.array]:
        """Tell logits processors the tokens of their rows: [rows]. Return those that will be read."""
        return self._processors.accept(tokens)

    def _changed(self, logits: mx.array, masks: Mapping[int, Mask]) -> mx.array:
        """Return the logits of rows that processors change and then of those that are only masked, float32."""
        if not masks:
            return self._processors.apply(logits)
        parts = [self._processors.apply(logits)] if self._processed else []
        if self._masked_only:
            parts.append(self._masked_only.of(logits).astype(mx.float32))
        return masked_logits(_together(parts), self._changed_rows, masks)

    def _noise(self, group: _Group, positions: list[int]) -> mx.array | None:
        if not group.streams:
            return None
        keys = [key(stream, positions[index]) for stream, index in zip(group.streams, group.indices, strict=True)]
        return self._gumbel(mx.array(keys, dtype=mx.uint32))


class _Group:
    """Rows of a step that are filtered together; those that are changed come first.

    ``changed`` are the indices of all rows of the step that are changed or masked, in the order of their logits.
    """

    def __init__(
        self, filter_kind: FilterKind | None, indices: list[int], changed: list[int], members: list[Row]
    ) -> None:
        of_changed = [place for place, index in enumerate(changed) if members[index].filter_kind == filter_kind]
        unchanged = [index for index in indices if index not in changed]
        self.indices = [changed[place] for place in of_changed] + unchanged
        group = [members[index] for index in self.indices]
        samplings = [member.sampling for member in group]
        self.streams = [] if filter_kind is None else [member.stream for member in group]
        self._changed = Rows(of_changed, len(changed))
        self._unchanged = Rows(unchanged, len(members))
        self._filter = Filter(filter_kind or FilterKind(), samplings)
        self._temperatures = column([sampling.temperature or 1.0 for sampling in samplings])
        self._argmax_finds_nan = mx.default_device().type == mx.DeviceType.cpu

    def sample(self, logits: mx.array, changed: mx.array, noise: mx.array | None) -> tuple[mx.array, mx.array]:
        """Return a token of each row, int32, and its largest logit, float32: NaN where any is. Both are [group].

        ``logits`` are those of the whole step, ``changed`` those of its changed rows. Without ``noise``: greedy.
        """
        mine = self._own(logits, changed)
        if noise is not None:
            peaks = mx.max(mine, axis=-1, keepdims=True)
            return mx.argmax(self._disturb(mine - peaks, noise), axis=-1).astype(mx.int32), peaks[:, 0]
        tokens = mx.argmax(mine, axis=-1, keepdims=True)
        # A second pass over the vocabulary is for nothing where the first one stops at a NaN.
        peaks = mx.take_along_axis(mine, tokens, axis=-1) if self._argmax_finds_nan else mx.max(mine, -1, keepdims=True)
        return tokens[:, 0].astype(mx.int32), peaks[:, 0]

    def _own(self, logits: mx.array, changed: mx.array) -> mx.array:
        parts = [self._changed.of(changed)] if self._changed else []
        if self._unchanged:
            parts.append(self._unchanged.of(logits).astype(mx.float32))
        return _together(parts)

    def _disturb(self, shifted: mx.array, noise: mx.array) -> mx.array:
        # Shifted, the likeliest token is at 0 at any temperature, and nothing overflows.
        scores = shifted / self._temperatures + noise
        dropped = self._filter.dropped(shifted)
        return scores if dropped is None else scores - dropped * _OUT


def _together(arrays: list[mx.array]) -> mx.array:
    return arrays[0] if len(arrays) == 1 else mx.concatenate(arrays)

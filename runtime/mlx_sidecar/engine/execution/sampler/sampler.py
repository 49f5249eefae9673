"""The sampler of a batch samples the next tokens of its rows, in groups that need the same work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from ....link.messages import Sampling
from .filters import Filter, FilterKind, column, filter_kind
from .limits import within_float32
from .logits_processors import (
    FACTORIES,
    BoundProcessors,
    ChangedRow,
    LogitsProcessor,
    ProcessorFactory,
    in_runs,
    make_processors,
)
from .logprobs import Asked, Sampled
from .noise import gumbel_over, key, stream
from .rows import Rows

# Dropped tokens lose by this much: more than noise can make up for.
_OUT = 1e30


class _Row(NamedTuple):
    sampling: Sampling
    stream: int  # of noise
    filter_kind: FilterKind | None  # None: greedy
    changed_by: tuple[bool, ...]  # for each logits processor


class Sampler:
    """Samples the next tokens of rows that the caller has numbered. Nothing is evaluated here.

    Rows of a step are grouped by the work that they need, so that no row pays for the parameters of another. Arrays
    that depend on the parameters alone are kept from step to step, as long as the rows stay the same.
    """

    def __init__(self, vocabulary: int, factories: Sequence[ProcessorFactory] = FACTORIES) -> None:
        """``factories`` make the logits processors of this batch, given the size of the ``vocabulary``."""
        self._vocabulary = vocabulary
        self._rows: dict[int, _Row] = {}
        self._processors = make_processors(factories, vocabulary)
        self._gumbel = gumbel_over(vocabulary)
        self._plan: _Plan | None = None

    def open(self, row: int, sampling: Sampling, prompt: list[int], answer: list[int]) -> None:
        """Begin ``row``.

        ``answer`` has its tokens generated so far, before a restart or a preemption; ``prompt`` has those before. All
        tokens here and in ``sampling`` are within the vocabulary.
        """
        self._plan = None
        sampling = within_float32(sampling)
        filtering = filter_kind(sampling, self._vocabulary) if sampling.temperature > 0 else None
        changed_by = tuple([processor.open(row, sampling, prompt, answer) for processor in self._processors])
        self._rows[row] = _Row(sampling, stream(sampling.seed), filtering, changed_by)

    def reads_last_token(self, row: int) -> bool:
        """Whether ``row`` may be sampled only once its token before has been read from the device."""
        changed_by = zip(self._processors, self._rows[row].changed_by, strict=True)
        return any(changed and processor.reads_last_token for processor, changed in changed_by)

    def close(self, row: int) -> None:
        """Forget ``row``."""
        self._plan = None
        for processor, changed in zip(self._processors, self._rows.pop(row).changed_by, strict=True):
            if changed:
                processor.close(row)

    def sample(self, rows: list[int], positions: list[int], logits: mx.array) -> Sampled:
        """Sample the next token of each of ``rows``, one or more, all distinct; other rows keep their state.

        ``logits`` are [rows, vocabulary], of any floating type; ``positions`` are those of the tokens to sample,
        counted from the start of the prompt. May be called again before its result was evaluated.
        """
        if self._plan is None or self._plan.rows != rows:
            self._plan = _Plan(list(rows), self._rows, self._processors, self._vocabulary)
        plan = self._plan
        changed = plan.processors.apply(logits)
        sampled = [group.sample(logits, changed, self._noise(group, positions)) for group in plan.groups]
        tokens, peaks = (_together([each[part] for each in sampled]) for part in (0, 1))
        if plan.order is not None:
            tokens, peaks = tokens[plan.order], peaks[plan.order]
        read, logprobs = plan.processors.accept(tokens), plan.asked.of(logits, tokens)
        return Sampled(tokens, peaks, plan.asked.rows, logprobs, plan.asked.alternatives, read)

    def _noise(self, group: _Group, positions: list[int]) -> mx.array | None:
        if not group.streams:
            return None
        keys = [key(stream, positions[index]) for stream, index in zip(group.streams, group.indices, strict=True)]
        return self._gumbel(mx.array(keys, dtype=mx.uint32))


class _Plan:
    """How to sample these rows in this order."""

    def __init__(
        self, rows: list[int], known: dict[int, _Row], processors: Sequence[LogitsProcessor], vocabulary: int
    ) -> None:
        self.rows = rows
        members = [known[row] for row in rows]
        kinds: dict[FilterKind | None, list[int]] = {}
        for index, member in enumerate(members):
            kinds.setdefault(member.filter_kind, []).append(index)
        changed = in_runs(
            [ChangedRow(rows[i], i, member.changed_by) for i, member in enumerate(members) if any(member.changed_by)]
        )
        self.processors = BoundProcessors(processors, changed, len(rows))
        places = [row.place for row in changed]
        self.groups = [_Group(kind, indices, places, members) for kind, indices in kinds.items()]
        self.asked = Asked([member.sampling.logprobs for member in members], vocabulary)
        order = [index for group in self.groups for index in group.indices]
        back = sorted(range(len(order)), key=order.__getitem__)
        self.order = None if back == order == sorted(order) else mx.array(back)


class _Group:
    """Rows of a step that are filtered together; those that a logits processor changes come first.

    ``changed`` are the indices of all rows of the step that one does, in the order of their changed logits.
    """

    def __init__(
        self, filter_kind: FilterKind | None, indices: list[int], changed: list[int], members: list[_Row]
    ) -> None:
        of_changed = [place for place, index in enumerate(changed) if members[index].filter_kind == filter_kind]
        unchanged = [index for index in indices if not any(members[index].changed_by)]
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

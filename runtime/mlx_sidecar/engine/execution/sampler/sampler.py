"""The sampler of a batch samples the next tokens of its rows, by mlx or natively."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ....link.messages import Sampling
from .filters import filter_kind
from .lazy import LazyPlan
from .limits import within_float32
from .logits_processors import FACTORIES, LogitsProcessor, ProcessorFactory, make_processors
from .logprobs import Sampled
from .masks import NO_MASKS, Mask
from .native import NativelySampled, NativePlan
from .noise import stream
from .rows import Row


class Sampler:
    """Samples the next tokens of rows that the caller has numbered.

    What depends on the rows' parameters alone is kept from step to step, as long as the rows stay the same.
    """

    def __init__(self, vocabulary: int, factories: Sequence[ProcessorFactory] = FACTORIES) -> None:
        """``factories`` make the logits processors of this batch, given the size of the ``vocabulary``."""
        self._vocabulary = vocabulary
        self._rows: dict[int, Row] = {}
        self._processors = make_processors(factories, vocabulary)
        self._plan: LazyPlan | NativePlan | None = None

    def open(self, row: int, sampling: Sampling, prompt: list[int], answer: list[int]) -> None:
        """Begin ``row``.

        ``answer`` has its tokens generated so far, before a restart or a preemption; ``prompt`` has those before. All
        tokens here and in ``sampling`` are within the vocabulary.
        """
        self._plan = None
        sampling = within_float32(sampling)
        filtering = filter_kind(sampling, self._vocabulary) if sampling.temperature > 0 else None
        changed_by = tuple([processor.open(row, sampling, prompt, answer) for processor in self._processors])
        self._rows[row] = Row(sampling, stream(sampling.seed), filtering, changed_by)

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

    @overload
    def sample(
        self,
        rows: list[int],
        positions: list[int],
        logits: mx.array,
        masks: Mapping[int, Mask] = ...,
        *,
        accepts: bool = ...,
    ) -> Sampled: ...
    @overload
    def sample(
        self,
        rows: list[int],
        positions: list[int],
        logits: NDArray[np.float32],
        masks: Mapping[int, Mask] = ...,
        *,
        accepts: bool = ...,
    ) -> NativelySampled: ...
    def sample(
        self,
        rows: list[int],
        positions: list[int],
        logits: mx.array | NDArray[np.float32],
        masks: Mapping[int, Mask] = NO_MASKS,
        *,
        accepts: bool = True,
    ) -> Sampled | NativelySampled:
        """Sample the next token of each of ``rows``, one or more, all distinct; other rows keep their state.

        ``logits`` are [rows, vocabulary]; ``positions`` are those of the tokens to sample, counted from the start of
        the prompt. An mx.array, of any floating type, is sampled by mlx: nothing is evaluated, and this may be called
        again before the result was. A numpy array, of float32 without gaps, is sampled natively and at once.
        ``masks`` leave some of ``rows`` fewer tokens. Unless it ``accepts``, ``accept`` must be told the tokens.
        """
        if isinstance(logits, mx.array):
            if not isinstance(self._plan, LazyPlan) or not _is_for(self._plan, rows, masks):
                self._plan = LazyPlan(*self._members(rows), masks)
            return self._plan.sample(positions, logits, masks, accepts=accepts)
        if not isinstance(self._plan, NativePlan) or not _is_for(self._plan, rows, masks):
            self._plan = NativePlan(*self._members(rows), masks)
        return self._plan.sample(positions, logits, masks, accepts=accepts)

    def accept(self, rows: list[int], tokens: list[int]) -> None:
        """Let logits processors know the token that each of ``rows`` goes on with, however it was chosen."""
        told = [at for at, row in enumerate(rows) if any(self._rows[row].changed_by)]
        if not told:
            return
        if self._plan is None or self._plan.rows != rows:
            rows, tokens = [rows[at] for at in told], [tokens[at] for at in told]
            self._plan = LazyPlan(*self._members(rows))
        mx.eval(self._plan.accept(mx.array(tokens, dtype=mx.int32)))

    def is_filtered(self, row: int) -> bool:
        """Whether tokens of ``row`` are dropped by top-k, top-p or min-p, so that a mask must come before sampling."""
        kind = self._rows[row].filter_kind
        return kind is not None and any(kind)

    def _members(self, rows: list[int]) -> tuple[list[int], list[Row], Sequence[LogitsProcessor], int]:
        return list(rows), [self._rows[row] for row in rows], self._processors, self._vocabulary


def _is_for(plan: LazyPlan | NativePlan, rows: list[int], masks: Mapping[int, Mask]) -> bool:
    return plan.rows == rows and plan.masked == frozenset(masks)

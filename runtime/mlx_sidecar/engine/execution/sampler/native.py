"""Sampling natively: logits that lie in memory, evaluated, all rows of a step in one call without the interpreter lock.

What is sampled is what the other modules here define and lazy.py computes by mlx: the same filters, and the same noise
from the same keys. Exponentials and logarithms are the native part's own, to 2 units in the last place. So both give
the same token, unless two scores, or a nucleus and the share it has to hold, are closer than that.

Most tokens cost a comparison. A draw computes the noise of no token that is dropped, nor of one that the largest noise
there is would leave behind the best score so far; top-k is found among the largest of small sets; nothing is sorted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_sidecar_native import _native

from ....link.messages import TokenLogprob
from .logits_processors import BoundProcessors, LogitsProcessor, changed_rows
from .masks import NO_MASKS, Mask, places_of
from .noise import key
from .rows import Row


class NativelySampled(NamedTuple):
    """The result of one step, as ``Sampled`` and with nothing left to evaluate but what logits processors read."""

    tokens: NDArray[np.int32]  # [rows]
    peaks: NDArray[np.float32]  # [rows]: the largest logits; no finite number where some logit is NaN or plus infinity
    logprobs: dict[int, tuple[float, list[tuple[int, float]]]]
    accepted: list[mx.array]  # tokens that logits processors will read

    @property
    def arrays(self) -> list[mx.array]:
        """The arrays that must be evaluated."""
        return self.accepted

    def unsound(self) -> set[int]:
        """Return the indices of rows without a choice: a logit is NaN or plus infinity, or all are minus infinity."""
        return set(np.flatnonzero(~np.isfinite(self.peaks)).tolist())

    def read(self) -> dict[int, TokenLogprob]:
        """Return the log-probabilities (natural logarithms) by index of the row in the step.

        Alternatives of equal probability are in token order.
        """
        return {row: TokenLogprob(*told) for row, told in self.logprobs.items()}


class NativePlan:
    """How to sample these rows in this order; those of ``masked`` come with a mask."""

    def __init__(
        self,
        rows: list[int],
        members: list[Row],
        processors: Sequence[LogitsProcessor],
        vocabulary: int,
        masked: Collection[int] = (),
    ) -> None:
        self.rows = rows
        self.masked = frozenset(masked)
        changed = changed_rows(rows, members)
        self._processors = BoundProcessors(processors, changed, len(rows))
        self._processed = [row.place for row in changed]
        self._masked_only = places_of(rows, masked, without=self._processed)
        changed_index = {place: index for index, place in enumerate(self._processed + self._masked_only)}
        self._changed_index = {rows[place]: index for place, index in changed_index.items()}
        self._streams = [member.stream for member in members]
        self._native = _native.cpu.SamplingPlan(
            vocabulary, [_settings(row, vocabulary, changed_index.get(at, -1)) for at, row in enumerate(members)]
        )

    def sample(
        self,
        positions: list[int],
        logits: NDArray[np.float32],
        masks: Mapping[int, Mask] = NO_MASKS,
        *,
        accepts: bool = True,
    ) -> NativelySampled:
        """Sample from ``logits`` [rows, vocabulary]; ``positions`` are those of the tokens to sample."""
        changed = self._changed(logits, masks) if self._changed_index else None
        keys = [key(stream, position) for stream, position in zip(self._streams, positions, strict=True)]
        tokens, peaks, logprobs = self._native.sample(logits, changed, keys)
        accepted = self.accept(mx.array(tokens)) if accepts and self._processed else []
        return NativelySampled(tokens, peaks, logprobs, accepted)

    def accept(self, tokens: mx.array) -> list[mx.array]:
        """Tell logits processors the tokens of their rows: [rows]."""
        return self._processors.accept(tokens)

    def _changed(self, logits: NDArray[np.float32], masks: Mapping[int, Mask]) -> NDArray[np.float32]:
        """Return the logits of rows that processors change and then of those that are only masked."""
        masked_only = logits[self._masked_only]  # a copy
        if self._processed:
            processed = self._processors.apply_to_changed(mx.array(logits[self._processed]))
            mx.eval(processed)
            changed = np.asarray(processed)
            if not masks:
                return changed
            changed = np.concatenate([changed, masked_only])
        else:
            changed = masked_only
        for row, mask in masks.items():
            changed[self._changed_index[row]][~mask] = -np.inf
        return changed


def _settings(row: Row, vocabulary: int, changed: int) -> tuple[float, int, float, float, int, int]:
    """Temperature, top-k, top-p, floor, alternatives to tell, and the row of the changed logits, -1 for none."""
    sampling, kind = row.sampling, row.filter_kind
    top_k = sampling.top_k if kind is not None and kind.head else 0
    floor = math.log(sampling.min_p) if sampling.min_p > 0 else -math.inf
    told = -1 if sampling.logprobs is None else min(sampling.logprobs, vocabulary)
    return sampling.temperature, top_k, sampling.top_p, floor, told, changed

"""Computes log-probabilities of the model's own distribution, for the rows that asked."""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple, cast

import mlx.core as mx

from ....link.messages import TokenLogprob


class Sampled(NamedTuple):
    """The result of one step, not evaluated yet: call ``mx.eval(*arrays)``, then ``read``."""

    tokens: mx.array  # [rows], int32
    peaks: mx.array  # [rows], float32: the largest logits; no finite number where some logit is NaN or plus infinity
    asked: list[int]  # which rows asked for log-probabilities, those that want most alternatives first
    logprobs: list[mx.array]  # empty if no row asked
    alternatives: list[int]  # how many, for each of ``asked``
    accepted: list[mx.array]  # tokens that logits processors will read

    @property
    def arrays(self) -> list[mx.array]:
        """The arrays that must be evaluated."""
        return [self.tokens, self.peaks, *self.logprobs, *self.accepted]

    def unsound(self) -> set[int]:
        """Return the indices of rows without a choice: a logit is NaN or plus infinity, or all are minus infinity."""
        return {row for row, peak in enumerate(cast("list[float]", self.peaks.tolist())) if not isfinite(peak)}

    def read(self) -> dict[int, TokenLogprob]:
        """Return the log-probabilities (natural logarithms) by index of the row in the step.

        Alternatives of equal probability are in token order.
        """
        if not self.asked:
            return {}
        chosen = cast("list[float]", self.logprobs[0].tolist())
        tops: list[list[tuple[int, float]]] = [[] for _ in self.asked]
        if len(self.logprobs) > 1:
            tokens, values = (cast("list[list[float]]", array.tolist()) for array in self.logprobs[1:])
            for top, row_tokens, row_values, count in zip(tops, tokens, values, self.alternatives, strict=False):
                top.extend((int(token), value) for token, value in zip(row_tokens, row_values, strict=True))
                del top[count:]
        return {row: TokenLogprob(logprob, top) for row, logprob, top in zip(self.asked, chosen, tops, strict=True)}


class Asked:
    """The rows of a step that asked for log-probabilities, and for how many alternatives."""

    def __init__(self, wanted: list[int | None], vocabulary: int) -> None:
        asked = [(-count, row) for row, count in enumerate(wanted) if count is not None]
        self.rows = [row for _, row in sorted(asked)]
        self.alternatives = [-count for count, _ in sorted(asked)]
        self._indices = mx.array(self.rows, dtype=mx.int32)
        self._with_top = sum(count > 0 for count in self.alternatives)
        self._widest = min(max(self.alternatives, default=0), vocabulary)

    def of(self, logits: mx.array, tokens: mx.array) -> list[mx.array]:
        """Return the log-probabilities of ``tokens``: [asked].

        Where alternatives are asked for, two more arrays follow: the likeliest tokens and their log-probabilities.
        """
        if not self.rows:
            return []
        own = logits[self._indices].astype(mx.float32)
        total = mx.logsumexp(own, axis=-1, keepdims=True)
        chosen = mx.take_along_axis(own, tokens[self._indices][:, None], axis=-1) - total
        if not self._with_top:
            return [chosen[:, 0]]
        own, total = own[: self._with_top], total[: self._with_top]
        top = _likeliest(own, self._widest)
        return [chosen[:, 0], top, mx.take_along_axis(own, top, axis=-1) - total]


def _likeliest(logits: mx.array, count: int) -> mx.array:
    """The ``count`` largest of each row, the largest first, equal ones in token order: [rows, count], int64.

    Sorts 64-bit integers: above, the logit's bits in an order that falls as the logit rises; below, the token.
    """
    bits = mx.view(logits + 0.0, mx.int32)  # + 0.0: -0.0 is no other number
    falling = ~mx.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    keys = (falling.astype(mx.int64) << 32) | mx.arange(logits.shape[-1], dtype=mx.int64)
    first = mx.partition(keys, count - 1, axis=-1)[:, :count]
    return mx.sort(first, axis=-1) & 0xFFFFFFFF

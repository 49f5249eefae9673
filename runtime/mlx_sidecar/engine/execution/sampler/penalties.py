"""Repetition, presence and frequency penalties, over the whole text of a row.

A row that has any holds a slot, with two numbers for each token of the vocabulary: the factor by which its logit is
divided or multiplied, and its count in the answer. Both follow the sampled tokens on the device, evaluated or not.
"""

from __future__ import annotations

import mlx.core as mx

from ....link.messages import Sampling
from .filters import column


class Penalties:
    """The slots of rows with penalties: 8 bytes for each token of the vocabulary and slot, none without rows."""

    order = 100
    reads_last_token = False

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._params: dict[int, Sampling] = {}
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._factors = self._blank(0)  # [slots, vocabulary] float32; 1 for tokens that were not seen
        self._counts = self._blank(0)  # the same shape; of the answer

    def open(self, row: int, params: Sampling, prompt: list[int], answer: list[int]) -> bool:
        """Fill a slot with the text of ``row``, if its ``params`` have penalties."""
        if params.repetition_penalty == 1 and not (params.presence_penalty or params.frequency_penalty):
            return False
        if not self._free:
            self._grow()
        self._params[row] = params
        slot = self._slots[row] = self._free.pop()
        factors, counts = mx.ones(self._vocabulary), mx.zeros(self._vocabulary)
        if seen := prompt + answer:
            factors[mx.array(seen)] = params.repetition_penalty
        if answer:
            counts = counts.at[mx.array(answer)].add(1.0)
        self._factors[slot] = factors
        self._counts[slot] = counts
        return True

    def bind(self, rows: list[int]) -> BoundPenalties:
        """Lay out the parameters of ``rows`` for the device."""
        return BoundPenalties(self, mx.array([self._slots[row] for row in rows]), [self._params[row] for row in rows])

    def close(self, row: int) -> None:
        """Free the slot of ``row``; the last row's takes all memory with it."""
        del self._params[row]
        self._free.append(self._slots.pop(row))
        if not self._slots:
            self._free.clear()
            self._factors = self._counts = self._blank(0)

    def factors(self, slots: mx.array) -> mx.array:
        """The factors that divide positive logits and multiply negative ones: [slots, vocabulary], float32."""
        return self._factors[slots]

    def counts(self, slots: mx.array) -> mx.array:
        """The count of each token in the answer: [slots, vocabulary], float32."""
        return self._counts[slots]

    def add(self, slots: mx.array, tokens: mx.array, penalties: mx.array) -> None:
        """Append to each slot's answer its token. ``penalties`` [slots]: each slot's repetition penalty."""
        # In place, if the step before is evaluated when this one is; else both arrays are copied once.
        self._factors[slots, tokens] = penalties
        self._counts = self._counts.at[slots, tokens].add(1.0)

    def _grow(self) -> None:
        have = self._factors.shape[0]
        more = max(1, have)
        self._free.extend(range(have, have + more))
        self._factors = mx.concatenate([self._factors, self._blank(more)])
        self._counts = mx.concatenate([self._counts, self._blank(more)])

    def _blank(self, slots: int) -> mx.array:
        return mx.zeros((slots, self._vocabulary))


class BoundPenalties:
    """The penalties of some rows, as columns [rows, 1], and the rows' slots."""

    def __init__(self, penalties: Penalties, slots: mx.array, params: list[Sampling]) -> None:
        self._penalties = penalties
        self._slots = slots
        self._repeats = any(row.repetition_penalty != 1 for row in params)
        self._counts = any(row.presence_penalty or row.frequency_penalty for row in params)
        self._repetition = mx.array([row.repetition_penalty for row in params])
        self._presence = column([row.presence_penalty for row in params])
        self._frequency = column([row.frequency_penalty for row in params])

    def apply(self, logits: mx.array) -> mx.array:
        """Penalise ``logits``: [rows, vocabulary], float32, to the same shape."""
        # Without mx.where, which takes ten times as long as a sum on a CPU. Factors of 1 and counts of 0 change no bit.
        if self._repeats:
            factors = self._penalties.factors(self._slots)
            logits = mx.maximum(logits, 0) / factors + mx.minimum(logits, 0) * factors
        if self._counts:
            counts = self._penalties.counts(self._slots)
            logits = logits - self._frequency * counts - self._presence * mx.minimum(counts, 1)
        return logits

    def accept(self, tokens: mx.array) -> None:
        """Count ``tokens`` [rows] from now on."""
        self._penalties.add(self._slots, tokens, self._repetition)

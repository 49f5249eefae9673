"""What changes logits before they are filtered: penalties and bias.

Penalties have a slot each for a row that has any: what every token's logit is divided or multiplied by, and how often
the answer had it. Both follow the sampled tokens on the device, evaluated or not.
"""

from __future__ import annotations

import mlx.core as mx

from ....link.messages import Sampling
from .filters import column


def penalizes(sampling: Sampling) -> bool:
    return sampling.repetition_penalty != 1 or bool(sampling.presence_penalty or sampling.frequency_penalty)


class Penalties:
    """Slots of penalties, by row. Memory: 8 bytes for each token of the vocabulary and slot; none without rows."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._factors = self._blank(0)  # [slots, vocabulary] float32; 1 for tokens that were not seen
        self._counts = self._blank(0)  # the same shape; of the answer

    def open(self, row: int, sampling: Sampling, prompt: list[int], answer: list[int]) -> None:
        if not self._free:
            self._grow()
        slot = self._slots[row] = self._free.pop()
        factors, counts = mx.ones(self._vocabulary), mx.zeros(self._vocabulary)
        if seen := prompt + answer:
            factors[mx.array(seen)] = sampling.repetition_penalty
        if answer:
            counts = counts.at[mx.array(answer)].add(1.0)
        self._factors[slot] = factors
        self._counts[slot] = counts

    def close(self, row: int) -> None:
        """Rows that have no penalties have nothing to close."""
        if row not in self._slots:
            return
        self._free.append(self._slots.pop(row))
        if not self._slots:
            self._free.clear()
            self._factors = self._counts = self._blank(0)

    def slots(self, rows: list[int]) -> mx.array:
        """[rows], for ``factors``, ``counts`` and ``note``; valid until one of the rows is closed."""
        return mx.array([self._slots[row] for row in rows])

    def factors(self, slots: mx.array) -> mx.array:
        return self._factors[slots]

    def counts(self, slots: mx.array) -> mx.array:
        return self._counts[slots]

    def note(self, slots: mx.array, penalties: mx.array, tokens: mx.array) -> None:
        """Each slot's text goes on with its token. ``penalties`` [rows]: each slot's repetition penalty."""
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


class LogitsProcessors:
    """The changes to some rows' logits; those with penalties come first among them."""

    def __init__(self, penalties: Penalties, penalized: list[int], samplings: list[Sampling]) -> None:
        """``penalized``: the first rows' numbers; ``samplings``: of all rows."""
        self._penalties = penalties
        self._penalized = len(penalized)
        with_penalties = samplings[: len(penalized)]
        self._slots = penalties.slots(penalized)
        self._repeats = any(sampling.repetition_penalty != 1 for sampling in with_penalties)
        self._counts = any(sampling.presence_penalty or sampling.frequency_penalty for sampling in with_penalties)
        self._presence = column([sampling.presence_penalty for sampling in with_penalties])
        self._frequency = column([sampling.frequency_penalty for sampling in with_penalties])
        # One entry for each biased token: its row, itself, what to add.
        self._rows = mx.array([row for row, sampling in enumerate(samplings) for _ in sampling.logit_bias])
        self._tokens = mx.array([token for sampling in samplings for token in sampling.logit_bias])
        self._biases = mx.array([bias for sampling in samplings for bias in sampling.logit_bias.values()], mx.float32)

    def apply(self, logits: mx.array) -> mx.array:
        """[rows, vocabulary] float32 to the same shape."""
        count = self._penalized
        if count == len(logits):
            logits = self._penalize(logits)
        elif count:
            logits = mx.concatenate([self._penalize(logits[:count]), logits[count:]])
        return logits.at[self._rows, self._tokens].add(self._biases) if self._biases.size else logits

    def _penalize(self, logits: mx.array) -> mx.array:
        # Without mx.where, which takes ten times as long as a sum on a CPU. Factors of 1 and counts of 0 change no bit.
        if self._repeats:
            factors = self._penalties.factors(self._slots)
            logits = mx.maximum(logits, 0) / factors + mx.minimum(logits, 0) * factors
        if self._counts:
            counts = self._penalties.counts(self._slots)
            logits = logits - self._frequency * counts - self._presence * mx.minimum(counts, 1)
        return logits

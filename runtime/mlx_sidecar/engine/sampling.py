"""From logits to a token, one row at a time. The order of things, for every token:

1. penalties: repetition, then presence and frequency;
2. logit bias, last of what changes logits, so that +100 forces a token whatever the penalties say;
3. top-k, then top-p over what is left, then min-p, all over the distribution before temperature, as in mlx-lm;
4. temperature, Gumbel noise, argmax. Temperature 0 is the argmax alone and skips 3.

Penalties look at the whole text, not at its last tokens: ``repetition_penalty`` divides the positive and multiplies the
negative logits of every token of prompt and answer (as in transformers); ``presence_penalty`` and ``frequency_penalty``
subtract for tokens of the answer only (as in OpenAI's API).

The noise of a token is a pure function of (seed, its position counted from the start of the prompt). So it is the same
alone, in any batch and after a restart, and a seed costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from ..link.messages import Sampling
from .sequence import Sequence

Sampler = Callable[[mx.array], mx.array]
Processor = Callable[[mx.array, mx.array], mx.array]

_MASK = 2**64 - 1


def greedy(logprobs: mx.array) -> mx.array:
    """[rows, vocabulary] to [rows]. One object for all greedy rows: mlx-lm samples rows that share one in one call."""
    return mx.argmax(logprobs, axis=-1)


def sampler_for(sequence: Sequence) -> Sampler:
    """What picks the next token of ``sequence`` from its log-probabilities. Called once for each token, in order."""
    if sequence.sampling.temperature <= 0:
        return greedy
    return _Draw(sequence.sampling, len(sequence.tokens))


def processors_for(sequence: Sequence) -> list[Processor]:
    """What changes the logits of ``sequence`` before that; usually nothing."""
    sampling = sequence.sampling
    processors: list[Processor] = []
    if sampling.repetition_penalty != 1:
        processors.append(_Repetition(sampling.repetition_penalty, sequence.tokens))
    if sampling.presence_penalty or sampling.frequency_penalty:
        emitted = sequence.tokens[len(sequence.tokens) - sequence.emitted :]
        processors.append(_Frequency(sampling.presence_penalty, sampling.frequency_penalty, emitted))
    if sampling.logit_bias:
        processors.append(_Bias(sampling.logit_bias))
    return processors


def noise_key(seed: int, position: int) -> mx.array:
    """The key of the noise at ``position``: shape [2], uint32."""
    # Two rounds of a 64-bit mixer: neighbouring seeds and positions get unrelated keys.
    mixed = _mix(_mix(seed & _MASK) + position)
    return mx.array([mixed >> 32, mixed & 0xFFFFFFFF], dtype=mx.uint32)


def _mix(value: int) -> int:
    """splitmix64: a bijection of 64-bit integers."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class _Draw:
    """Draws from one row's distribution; knows which position is next."""

    def __init__(self, sampling: Sampling, position: int) -> None:
        self._sampling = sampling
        self._position = position

    def __call__(self, logprobs: mx.array) -> mx.array:
        """[1, vocabulary] to [1]."""
        row = logprobs[0].astype(mx.float32)
        noise = mx.random.gumbel(row.shape, key=noise_key(self._sampling.seed, self._position))
        self._position += 1
        if (tokens := self._candidates(row)) is None:
            return mx.argmax(self._keep_min_p(row) / self._sampling.temperature + noise, keepdims=True)
        kept = self._keep_min_p(_keep_top_p(row[tokens], self._sampling.top_p))
        # Noise goes with the token, not with its rank.
        return tokens[mx.argmax(kept / self._sampling.temperature + noise[tokens], keepdims=True)]

    def _candidates(self, row: mx.array) -> mx.array | None:
        """The tokens that top-k leaves, likeliest first where top-p needs it; None for all of them, as they are.

        A sort of 150,000 takes 17 ms on a CPU and a partition 1.6, so only top-p without top-k sorts the vocabulary.
        """
        top_k, sorts = self._sampling.top_k, self._sampling.top_p < 1
        if not 0 < top_k < row.size:
            return mx.argsort(-row) if sorts else None
        tokens = mx.argpartition(-row, top_k - 1)[:top_k]
        return tokens[mx.argsort(-row[tokens])] if sorts else tokens

    def _keep_min_p(self, row: mx.array) -> mx.array:
        if self._sampling.min_p <= 0:
            return row
        floor = mx.max(row) + mx.log(mx.array(self._sampling.min_p))
        return mx.where(row >= floor, row, -mx.inf)


def _keep_top_p(ranked: mx.array, top_p: float) -> mx.array:
    """Of a descending row, the shortest head whose probability reaches ``top_p``; at least the first."""
    if top_p >= 1:
        return ranked
    probabilities = mx.softmax(ranked)
    before = mx.cumsum(probabilities) - probabilities
    keep = before < top_p
    keep[0] = True
    return mx.where(keep, ranked, -mx.inf)


class _Repetition:
    """Weakens every token that prompt or answer has had."""

    def __init__(self, penalty: float, tokens: list[int]) -> None:
        self._penalty = penalty
        self._tokens = mx.array(tokens)
        self._seen: mx.array | None = None

    def __call__(self, context: mx.array, logits: mx.array) -> mx.array:
        if self._seen is None:
            self._seen = mx.zeros(logits.shape[-1], dtype=mx.bool_)
            self._seen[self._tokens] = True
        else:
            # One call for each token: of the context only its last is new.
            self._seen[context[-1:]] = True
        weakened = mx.where(logits > 0, logits / self._penalty, logits * self._penalty)
        return mx.where(self._seen, weakened, logits)


class _Frequency:
    """Weakens every token of the answer: once for being there, and once more for each time."""

    def __init__(self, presence: float, frequency: float, emitted: list[int]) -> None:
        self._presence = presence
        self._frequency = frequency
        self._emitted = emitted
        self._counts: mx.array | None = None

    def __call__(self, context: mx.array, logits: mx.array) -> mx.array:
        if self._counts is None:
            self._counts = mx.zeros(logits.shape[-1], dtype=mx.float32)
            if self._emitted:
                self._counts = self._counts.at[mx.array(self._emitted)].add(1.0)
        else:
            self._counts = self._counts.at[context[-1:]].add(1.0)
        return logits - self._frequency * self._counts - self._presence * (self._counts > 0)


class _Bias:
    """Adds to some logits."""

    def __init__(self, bias: dict[int, float]) -> None:
        self._tokens = mx.array(list(bias))
        self._values = mx.array(list(bias.values()), dtype=mx.float32)

    def __call__(self, context: mx.array, logits: mx.array) -> mx.array:
        return logits.at[:, self._tokens].add(self._values)

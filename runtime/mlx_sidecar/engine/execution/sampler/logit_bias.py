"""Logit bias: numbers that a host adds to the logits of tokens it names."""

from __future__ import annotations

import mlx.core as mx

from ....link.messages import Sampling


class LogitBias:
    """Adds to the logits of some tokens of a row, after the penalties, so that +100 forces a token despite these."""

    order = 200
    reads_last_token = False

    def __init__(self, _vocabulary: int) -> None:
        self._biases: dict[int, dict[int, float]] = {}

    def open(self, row: int, params: Sampling, _prompt: list[int], _answer: list[int]) -> bool:
        """Keep the biases of ``row``, by token, if it has any."""
        if not params.logit_bias:
            return False
        self._biases[row] = params.logit_bias
        return True

    def bind(self, rows: list[int]) -> BoundLogitBias:
        """Lay out the biases of ``rows`` for the device."""
        return BoundLogitBias([self._biases[row] for row in rows])

    def close(self, row: int) -> None:
        """Forget the biases of ``row``."""
        del self._biases[row]


class BoundLogitBias:
    """The biases of some rows, one entry for each biased token: its row, the token, and the number to add."""

    def __init__(self, biases: list[dict[int, float]]) -> None:
        self._rows = mx.array([row for row, own in enumerate(biases) for _ in own])
        self._tokens = mx.array([token for own in biases for token in own])
        self._values = mx.array([value for own in biases for value in own.values()], mx.float32)

    def apply(self, logits: mx.array) -> mx.array:
        """Add the biases to ``logits``: [rows, vocabulary], float32, to the same shape."""
        return logits.at[self._rows, self._tokens].add(self._values)

    def accept(self, tokens: mx.array) -> None:
        """Ignore ``tokens``, because biases do not depend on them."""

"""An encoder is a stack of layers over the tokens of many texts, which lie one behind the other."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import mlx.core as mx

from ....link.control_messages import Pooling
from .attention import Run


class Sizes(NamedTuple):
    """The sizes of an encoder. A text has ``context`` tokens at most, and each takes ``token_bytes`` while it runs.

    ``labels`` are those of its classifier, 0 without one, which is given the hidden states pooled as ``classified``.
    """

    layers: int
    width: int
    vocabulary: int
    context: int
    token_bytes: int
    labels: int = 0
    classified: Pooling = "cls"


class Encoder(Protocol):
    """The layers of an encoder. Nothing is evaluated here but what native code needs."""

    sizes: Sizes

    def begin(self, tokens: mx.array, positions: mx.array, types: mx.array) -> mx.array:
        """Return the embeddings [tokens, width] of ``tokens`` at their ``positions`` in texts of their ``types``."""
        ...

    def layer(self, number: int, x: mx.array, runs: list[Run]) -> mx.array:
        """Pass hidden states [tokens, width] of the texts in ``runs`` through a layer."""
        ...

    def end(self, x: mx.array) -> mx.array:
        """Return what follows the last layer, of hidden states in any shape [..., width]."""
        ...

    def classify(self, pooled: mx.array) -> mx.array:
        """Return logits [labels] of ``pooled`` [width]; only where there are labels."""
        ...

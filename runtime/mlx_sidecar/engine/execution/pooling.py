"""Pooling makes one vector of the hidden states of a text."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from ...link.control_messages import Pooling
from ...link.messages import Embed, Score


def pooled(hidden: mx.array, pooling: Pooling) -> mx.array:
    """Return the vector [width], in float32, of the ``hidden`` states [tokens, width] of one text; lazily."""
    if pooling == "cls":
        return hidden[0].astype(mx.float32)
    if pooling == "last":
        return hidden[-1].astype(mx.float32)
    whole = hidden.astype(mx.float32)
    return mx.max(whole, axis=0) if pooling == "max" else mx.sum(whole, axis=0) / hidden.shape[0]


def finished(vector: mx.array, goal: Embed | Score) -> bytes | None:
    """Return what ``goal`` wants of ``vector``, which is evaluated, as float32; None where a number is not finite.

    A vector that is all zeros stays so where it should have length 1.
    """
    numbers = np.array(vector, dtype=np.float32)
    if not np.isfinite(numbers).all():
        return None
    if isinstance(goal, Embed):
        numbers = numbers[: goal.dimensions]
        # In float64, because the square of a large number is infinite in float32.
        length = float(np.sqrt(np.square(numbers, dtype=np.float64).sum())) if goal.normalize else 0.0
        numbers = (numbers / length).astype(np.float32) if length else numbers
    return numbers.astype("<f4").tobytes()

"""Vectors of the fake engine are a pure function of tokens and goal: texts that share words are near each other."""

from __future__ import annotations

import hashlib
import math
from array import array

from ...link.messages import Embed, Score


def vector_of(tokens: list[int], goal: Embed | Score, dimensions: int) -> bytes:
    """Return the result of ``goal``: float32, little-endian. A score is a logit: more for each word in common."""
    if isinstance(goal, Score):
        query, document = tokens[: goal.second], tokens[goal.second :]
        return array("f", [float(len(_words(query) & _words(document)) - 1)]).tobytes()
    sums = [0.0] * dimensions
    for word in sorted(_words(tokens)):
        for at, number in enumerate(_numbers(goal.pooling.encode() + word, dimensions)):
            sums[at] += number
    cut = sums[: goal.dimensions]
    length = math.hypot(*cut) if goal.normalize else 0.0
    return array("f", [number / length for number in cut] if length else cut).tobytes()


def _words(tokens: list[int]) -> set[bytes]:
    return set(bytes(token for token in tokens if token < 256).lower().split()) or {b""}


def _numbers(seed: bytes, count: int) -> list[float]:
    """Return ``count`` numbers from -1 to 1."""
    digest = hashlib.shake_128(seed).digest(2 * count)
    return [int.from_bytes(digest[2 * at : 2 * at + 2], "little") / 32767.5 - 1.0 for at in range(count)]

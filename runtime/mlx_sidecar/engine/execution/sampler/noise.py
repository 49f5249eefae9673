"""Gumbel noise, which is a pure function of seed, position and token."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

_MASK = 2**64 - 1
# Less than any noise from a positive uniform number (-2.8). A uniform 0 would give -inf, with which a kept token could
# lose against a dropped one.
_LEAST = -100.0


def stream(seed: int) -> int:
    """Return the stream of ``seed``, which ``key`` takes; of the seed, the lowest 64 bits count."""
    return _mix(seed & _MASK)


def key(stream: int, position: int) -> list[int]:
    """Return the key of the noise at ``position``: two 32-bit words, unrelated to those of neighbouring positions."""
    mixed = _mix(stream + position)
    return [mixed >> 32, mixed & 0xFFFFFFFF]


def gumbel_over(vocabulary: int) -> Callable[[mx.array], mx.array]:
    """Return a function from keys [rows, 2], uint32, to noise [rows, vocabulary], float32, row by row."""

    def row(key: mx.array) -> mx.array:
        return mx.maximum(mx.random.gumbel((vocabulary,), key=key), _LEAST)

    rows: Callable[[mx.array], mx.array] = mx.vmap(row)
    return rows


def _mix(value: int) -> int:
    """splitmix64 (Steele, Lea and Flood 2014): a bijection of 64-bit integers."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)

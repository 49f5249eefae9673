"""Gumbel noise that is a pure function of (seed, position, token)."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

_MASK = 2**64 - 1
# Less than any noise that comes of a positive uniform number (-2.8). A uniform 0 would give -inf, and with it a token
# that is kept could lose against one that is dropped.
_LEAST = -100.0


def stream(seed: int) -> int:
    """What ``key`` takes for ``seed``: any integer, of which the lowest 64 bits count."""
    return _mix(seed & _MASK)


def key(stream: int, position: int) -> list[int]:
    """The key of the noise at ``position``: two 32-bit words. Neighbouring seeds and positions get unrelated keys."""
    mixed = _mix(stream + position)
    return [mixed >> 32, mixed & 0xFFFFFFFF]


def gumbel_over(vocabulary: int) -> Callable[[mx.array], mx.array]:
    """A function from keys [rows, 2], uint32, to noise [rows, vocabulary], float32; each row is of its key alone."""

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

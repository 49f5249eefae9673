"""Arithmetic for training on a CPU, where mlx spends 12-20 ns on every `exp` and training is mostly `exp`.

A polynomial with squarings stands in for it: a relative error of 4e-5, 2 ns when `mx.compile` finds g++. Scoring and
everything that uses the model run mlx-lm's own functions.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import mlx.core as mx

_REFINE = 8  # exp(x) = exp(x / 2**8) squared 8 times
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Tells glibc to keep large freed blocks: fresh pages for every large array cost more than the arithmetic."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _power(x: mx.array) -> mx.array:
    """exp(x) for |x| <= 80."""
    y = x * (1 / 2**_REFINE)
    power: mx.array = 1 + y * (1 + y * (0.5 + y * (1 / 6 + y * (1 / 24))))
    for _ in range(_REFINE):
        power = power * power
    return power


@mx.compile
def _exp(x: mx.array) -> mx.array:
    """exp(x) for x <= 0."""
    return _power(mx.maximum(x, -80.0))


@mx.compile
def _sigmoid(x: mx.array) -> mx.array:
    return 1 / (1 + _power(mx.clip(-x, -80.0, 80.0)))


@mx.custom_function
def softmax(x: mx.array) -> mx.array:
    """Softmax over the last axis."""
    power = _exp(x - mx.max(x, axis=-1, keepdims=True))
    return power * (1 / mx.sum(power, axis=-1, keepdims=True))


@softmax.vjp
def _softmax_vjp(_x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    product = cotangent * output
    return product - output * mx.sum(product, axis=-1, keepdims=True)


@mx.custom_function
def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """`silu(gate) * x`."""
    return gate * _sigmoid(gate) * x


@swiglu.vjp
def _swiglu_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, _output: mx.array
) -> tuple[mx.array, mx.array]:
    gate, x = primals
    opened = _sigmoid(gate)
    silu = gate * opened
    return cotangent * x * (opened + silu * (1 - opened)), cotangent * silu


def attention(queries: mx.array, keys: mx.array, values: mx.array, scale: float, **_: Any) -> mx.array:
    """Causal attention without a cache. Shapes: queries B × H × T × D, keys and values B × K × T × D; H a multiple of K."""
    batch, groups, length, width = keys.shape
    repeats = queries.shape[1] // groups
    scores = (queries * scale).reshape(batch, groups, repeats * length, width) @ keys.swapaxes(-1, -2)
    future = mx.triu(mx.full((length, length), -1e9), 1)
    weights: Any = softmax(scores.reshape(batch, groups, repeats, length, length) + future)
    mixed: mx.array = (weights.reshape(batch, groups, repeats * length, length) @ values).reshape(queries.shape)
    return mixed

"""Activations of encoders. On a CPU native code computes them many numbers at a time, where mlx takes one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import mlx.core as mx
import mlx.nn as nn
import numpy as np

Activation = Callable[[mx.array], mx.array]

PLAIN: Final[Mapping[str, Activation]] = {
    "gelu": nn.gelu,
    "gelu_new": nn.gelu_approx,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "relu": nn.relu,
    "silu": nn.silu,
}
"""By the names that configs have for them."""

_NATIVE: Final = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "silu": "silu"}
_AT_ONCE: Final = 1 << 16
_ONES: Final = np.ones(_AT_ONCE, dtype=np.float32)


def activation(name: str, *, native: bool) -> Activation:
    """The activation ``name`` of ``PLAIN``, by native code if that is there and has it."""
    plain = PLAIN[name]
    return partial(_natively, _NATIVE[name], plain) if native and name in _NATIVE else plain


def _natively(name: str, plain: Activation, x: mx.array) -> mx.array:
    """Evaluates ``x``. Each number's result depends on it alone, wherever it stands."""
    from mlx_sidecar_native._native import cpu

    if x.dtype != mx.float32:
        return plain(x)
    numbers = np.array(x, copy=False).reshape(-1)
    out = np.empty_like(numbers)
    for begin in range(0, numbers.size, _AT_ONCE):
        part = numbers[begin : begin + _AT_ONCE]
        cpu.gated(name, part, _ONES[: part.size], out[begin : begin + part.size])
    return mx.array(out.reshape(x.shape))

"""Unpacks weights to the numbers they stand for, in float32, because half precision would round them."""

from __future__ import annotations

from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from .interfaces import Model, Packed
from .mlxlm import packed_classes


def unpack(model: Model) -> None:
    """Replace the packed layers of ``model`` by plain ones; lazily. A layer of another class stays as it is.

    mlx-lm's ``dequantize_model`` computes in the type of the scales, mostly bfloat16, and leaves out global scales.
    """
    plain = packed_classes()
    packed = [(name, module) for name, module in model.named_modules() if type(module) in plain]
    found = [(name, _unpacked(cast("Packed", module), plain[type(module)])) for name, module in packed]
    if found:
        model.update_modules(cast("dict[str, Any]", tree_unflatten(found)))


def _unpacked(packed: Packed, plain: type[nn.Module]) -> nn.Module:
    made: Any = plain.__new__(plain)
    nn.Module.__init__(made)  # not its own, whose arrays would be replaced
    made.weight = dequantized(packed)
    if "bias" in packed:
        made.bias = packed.bias
    return cast("nn.Module", made)


def dequantized(packed: Packed) -> mx.array:
    """Return the weights of a packed layer, in float32; lazily."""
    if packed.get("scales") is None:  # a QQLinear that was loaded unpacked
        return packed.weight
    biases = None if packed.get("biases") is None else in_float32(packed.biases)
    scales, whole = in_float32(packed.scales), packed.get("global_scale")
    how: dict[str, Any] = {"group_size": packed.group_size, "bits": packed.bits, "mode": packed.mode}
    how["dtype"] = mx.float32
    if whole is None or not whole.ndim:
        return mx.dequantize(packed.weight, scales, biases, global_scale=whole, **how)
    # One scale for each expert, and mlx takes one at a time.
    experts = zip(packed.weight, scales, whole, strict=True)
    return mx.stack([mx.dequantize(w, s, global_scale=g, **how) for w, s, g in experts])


def in_float32(array: mx.array) -> mx.array:
    """Scales of mxfp4, mxfp8 and nvfp4 are bytes that hold exponents, and stay."""
    return array.astype(mx.float32) if mx.issubdtype(array.dtype, mx.floating) else array

"""Packed weights as the numbers they stand for, in float32: half precision would round what they say."""

from __future__ import annotations

from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from .mlxlm import packed_classes


def unpack(model: nn.Module) -> None:
    """Replace the packed layers of ``model`` by plain ones; lazily. A layer of another class stays as it is.

    mlx-lm's ``dequantize_model`` computes in the type of the scales, mostly bfloat16, and leaves out global scales.
    """
    plain = packed_classes()
    packed = [(name, module) for name, module in model.named_modules() if type(module) in plain]
    found = [(name, _unpacked(module, plain[type(module)])) for name, module in packed]
    if found:
        model.update_modules(cast("dict[str, Any]", tree_unflatten(found)))


def _unpacked(packed: Any, plain: type[nn.Module]) -> nn.Module:
    made: Any = plain.__new__(plain)
    nn.Module.__init__(made)  # what its own would make is replaced
    made.weight = mx.dequantize(
        packed.weight,
        _in_float32(packed.scales),
        None if packed.get("biases") is None else _in_float32(packed.biases),
        packed.group_size,
        packed.bits,
        packed.mode,
        global_scale=packed.get("global_scale"),
        dtype=mx.float32,
    )
    if "bias" in packed:
        made.bias = packed.bias
    return cast("nn.Module", made)


def _in_float32(array: mx.array) -> mx.array:
    """Scales of mxfp4, mxfp8 and nvfp4 are bytes that hold exponents, and stay."""
    return array.astype(mx.float32) if mx.issubdtype(array.dtype, mx.floating) else array

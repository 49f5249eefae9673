"""Packed layers as plain ones: the numbers they stand for, and not what half precision makes of them."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlx_sidecar.engine.execution.mlxlm import packed_classes
from mlx_sidecar.engine.execution.unpacking import unpack


def model_of(layer: nn.Module, mode: str, bits: int, group_size: int) -> Any:
    model: Any = nn.Module()
    model.layer = layer
    nn.quantize(model, group_size=group_size, bits=bits, mode=mode)
    return model


MODES = [("affine", 4, 32), ("affine", 8, 64), ("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]


@pytest.mark.parametrize(("mode", "bits", "group_size"), MODES)
@pytest.mark.parametrize("kind", ["Linear", "Embedding", "SwitchLinear", "MultiLinear"])
def test_what_is_unpacked_is_what_it_stands_for_in_float32(kind: str, mode: str, bits: int, group_size: int) -> None:
    plain = {made.__name__: made for made in packed_classes().values()}[kind]
    sizes = {"Linear": (64, 32), "Embedding": (32, 64)}.get(kind, (64, 32, 3))
    layer: Any = plain(*sizes)
    layer.weight = layer.weight.astype(mx.bfloat16)
    model = model_of(layer, mode, bits, group_size)
    packed = model.layer
    scales, biases = packed.scales, packed.get("biases")
    if mode == "affine":
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    exact = mx.dequantize(packed.weight, scales, biases, group_size, bits, mode, dtype=mx.float32)
    unpack(model)
    made = model.layer
    assert type(made).__name__ == kind
    assert made.weight.dtype == mx.float32
    assert mx.array_equal(made.weight, exact)


def test_a_bias_goes_along_and_a_layer_of_another_kind_stays() -> None:
    class Own(nn.QuantizedLinear):
        """As models have them, with a forward of their own."""

    model: Any = nn.Module()
    model.layers = [nn.Linear(64, 8).to_quantized(32, 4), Own(64, 8, group_size=32, bits=4)]
    bias = model.layers[0].bias
    unpack(model)
    assert [type(layer) for layer in model.layers] == [nn.Linear, Own]
    assert mx.array_equal(model.layers[0].bias, bias)
    assert model.layers[0](mx.ones((1, 64))).shape == (1, 8)


def test_experts_are_unpacked_each_by_a_global_scale_of_its_own() -> None:
    switch: Any = next(made for made in packed_classes().values() if made.__name__ == "SwitchLinear")
    model: Any = nn.Module()
    plain: Any = switch(64, 32, 3)
    model.experts = plain.to_quantized(16, 4, "nvfp4", True)
    packed = model.experts
    exact = mx.dequantize(
        packed.weight[1], packed.scales[1], None, 16, 4, "nvfp4", global_scale=packed.global_scale[1], dtype=mx.float32
    )
    unpack(model)
    assert type(model.experts) is switch
    assert mx.array_equal(model.experts.weight[1], exact)


@pytest.mark.parametrize("packed", [True, False])
def test_a_layer_that_rounds_its_activations_becomes_one_that_does_not(packed: bool) -> None:
    model: Any = nn.Module()
    plain = nn.Linear(64, 32, bias=False)
    layer: Any = nn.QQLinear.from_linear(plain, 16, 4, "nvfp4")
    if packed:
        layer.quantize()
    model.layer = layer
    unpack(model)
    assert type(model.layer) is nn.Linear
    assert mx.allclose(model.layer.weight, plain.weight, atol=0.05 if packed else 1e-9)

"""The Dense modules of a checkpoint make another vector of a pooled one, before it is given its length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from mlx_sidecar_protocol.errors import ModelLoadFailed

from ...checkpoint.dense import DenseFile
from .packed import packed_in

_ACTIVATIONS: Final[Mapping[str, Callable[[mx.array], mx.array]]] = {
    "identity": lambda x: x,
    "tanh": mx.tanh,
    "relu": nn.relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "sigmoid": mx.sigmoid,
}


class _Layer(NamedTuple):
    """``weight`` [outputs, inputs], and ``bias`` [outputs] if it has one, both float32."""

    weight: mx.array
    bias: mx.array | None
    activation: Callable[[mx.array], mx.array]


class Dense:
    """The modules of a checkpoint, in order; often none."""

    def __init__(self, files: Sequence[DenseFile] = (), model: str = "") -> None:
        """Read the modules in ``files``. Raises ModelLoadFailed naming ``model`` for a weight of another shape."""
        self._layers = [_read(file, model) for file in files]
        arrays = [array for layer in self._layers for array in layer[:2] if array is not None]
        mx.eval(arrays)
        self.nbytes = sum(array.nbytes for array in arrays)
        self.parameters = sum(file.parameters for file in files)

    def __call__(self, vector: mx.array) -> mx.array:
        """Return what the modules make of ``vector`` [inputs] in float32; lazily."""
        for weight, bias, activation in self._layers:
            product = vector[None] @ weight.T
            vector = activation(product[0] if bias is None else product[0] + bias)
        return vector


def _read(file: DenseFile, model: str) -> _Layer:
    arrays = mx.load(str(file.file))
    assert isinstance(arrays, dict)
    packed = packed_in(model, arrays, file.name, file.outputs, file.inputs)
    weight = arrays[f"{file.name}.weight"] if packed is None else packed.unpacked()
    if weight.shape != (file.outputs, file.inputs) or not mx.issubdtype(weight.dtype, mx.floating):
        because = f"{file.name} is {weight.dtype} {list(weight.shape)}, not {[file.outputs, file.inputs]}"
        raise ModelLoadFailed(model, because)
    bias = arrays[f"{file.name}.bias"].astype(mx.float32) if file.has_bias else None
    return _Layer(weight.astype(mx.float32), bias, _ACTIVATIONS[file.activation])

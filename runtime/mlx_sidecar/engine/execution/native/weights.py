"""Gives native code the places of weights: arrays of mlx, read where they lie and never written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from ...core.adapter import Projection

if TYPE_CHECKING:
    from mlx_sidecar_native._native import cpu

_FORMATS = {mx.float32: "float32", mx.float16: "float16", mx.bfloat16: "bfloat16"}
_GROUPS = (32, 64, 128)
# Columns that a kernel takes in one step (native/src/cpu/matrix.hpp).
_STEPS = {"float32": 8, "float16": 8, "bfloat16": 16, "q4": 64, "q8": 32}


class NotNative(Exception):
    """The reason for which native code cannot compute a model's step."""


class Weights:
    """The weights of one model; ``held`` is what native code reads, and must live as long as it does.

    ``projections`` of its layers have numbers, by which adapters know them.
    """

    def __init__(self, kernels: Any) -> None:
        """``kernels`` is the module ``mlx_sidecar_native._native.cpu``."""
        self._cpu = kernels
        self.held: list[NDArray[Any]] = []
        self.projections: dict[str, Projection] = {}
        self.numbers: dict[str, int] = {}

    def matrix(self, layer: Any) -> cpu.Matrix:
        """Return the matrix of a linear layer or an embedding.

        Raises ``NotNative`` for layers of another kind, and for numbers that no kernel reads.
        """
        if type(layer) in (nn.Linear, nn.Embedding):
            return self._plain(layer.weight)
        if type(layer) in (nn.QuantizedLinear, nn.QuantizedEmbedding):
            return self._quantized(layer)
        raise NotNative(f"a layer is a {type(layer).__name__}")

    def projection(self, layer: Any, path: str = "") -> cpu.Projection:
        """Return a linear layer with its bias; adapters may name it by its ``path``."""
        bias = vector(layer.bias) if "bias" in layer else None
        matrix, number = self.matrix(layer), -1
        if path:
            number = self.numbers[path] = len(self.numbers)
            self.projections[path] = Projection(matrix.columns, matrix.rows)
        return cast("cpu.Projection", self._cpu.Projection(matrix, bias, number))

    def _plain(self, weight: mx.array) -> cpu.Matrix:
        name = _FORMATS.get(weight.dtype)
        if name is None:
            raise NotNative(f"weights are {weight.dtype}")
        rows, columns = weight.shape
        self._check(columns, name)
        return cast("cpu.Matrix", self._cpu.Matrix(name, rows, columns, self._place(weight)))

    def _quantized(self, layer: Any) -> cpu.Matrix:
        bits, group, mode = layer.bits, layer.group_size, getattr(layer, "mode", "affine")
        if mode != "affine" or bits not in (4, 8) or group not in _GROUPS:
            raise NotNative(f"weights are {mode} of {bits} bits in groups of {group}")
        scale_format = _FORMATS.get(layer.scales.dtype)
        if scale_format is None or layer.biases.dtype != layer.scales.dtype:
            raise NotNative(f"scales are {layer.scales.dtype}")
        rows, columns = layer.weight.shape[0], layer.weight.shape[1] * 32 // bits
        self._check(columns, f"q{bits}")
        places = [self._place(array) for array in (layer.weight, layer.scales, layer.biases)]
        return cast("cpu.Matrix", self._cpu.Matrix(f"q{bits}", rows, columns, *places, group, scale_format))

    def _check(self, columns: int, name: str) -> None:
        if columns % _STEPS[name]:
            raise NotNative(f"a matrix has {columns} columns, which is no multiple of {_STEPS[name]}")

    def _place(self, array: mx.array) -> NDArray[Any]:
        """Return ``array``, which is evaluated, as numpy sees it in the same memory."""
        bits = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array  # numpy has no bfloat16
        shared = np.array(bits, copy=False)
        if np.array(bits, copy=False).ctypes.data != shared.ctypes.data:
            raise NotNative("this mlx gives its weights as copies")
        self.held.append(shared)
        return shared


def vector(array: mx.array, plus: float = 0.0) -> NDArray[np.float32]:
    """Return a copy of ``array`` in float32, plus a number in float32."""
    return np.array(array.astype(mx.float32) + plus)

"""Matrices that are packed as mlx packs them, of encoders and Dense modules: computed with as they are, or unpacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .unpacking import in_float32

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]

# Modes whose scales are bytes, by bits and size of a group. Of them there is one each.
_OF_BYTES: Final[Mapping[tuple[int, int], Mode]] = {(4, 16): "nvfp4", (4, 32): "mxfp4", (8, 32): "mxfp8"}
_BITS: Final = (2, 3, 4, 5, 6, 8)
_GROUPS: Final = (32, 64, 128)


@dataclass(frozen=True, slots=True)
class Packed:
    """A matrix [out, in] in words of 32 bits, with ``scales`` [out, in / group_size] and, if affine, ``biases``."""

    weight: mx.array
    scales: mx.array
    biases: mx.array | None
    group_size: int
    bits: int
    mode: Mode

    @property
    def dtype(self) -> mx.Dtype:
        """The type of what is computed with it."""
        return self.scales.dtype if self.mode == "affine" else mx.bfloat16

    @property
    def arrays(self) -> list[mx.array]:
        return [array for array in (self.weight, self.scales, self.biases) if array is not None]

    def times(self, x: mx.array) -> mx.array:
        """Return ``x`` [..., in] by its transpose: [..., out]."""
        return mx.quantized_matmul(
            x, self.weight, self.scales, self.biases, True, self.group_size, self.bits, mode=self.mode
        )

    def rows(self, numbers: mx.array) -> mx.array:
        """Return the rows of those ``numbers``, unpacked: [..., in]."""
        biases = None if self.biases is None else self.biases[numbers]
        return self._unpacked(self.weight[numbers], self.scales[numbers], biases, self.dtype)

    def unpacked(self) -> mx.array:
        """Return the matrix in float32, because half precision would round it; lazily."""
        biases = None if self.biases is None else in_float32(self.biases)
        return self._unpacked(self.weight, in_float32(self.scales), biases, mx.float32)

    def _unpacked(self, weight: mx.array, scales: mx.array, biases: mx.array | None, dtype: mx.Dtype) -> mx.array:
        return mx.dequantize(weight, scales, biases, self.group_size, self.bits, mode=self.mode, dtype=dtype)


def stacked(parts: Sequence[Packed]) -> Packed | None:
    """Return one matrix of the rows of ``parts``, one below the other; None if they are packed in different ways."""
    first = parts[0]
    if len({(each.group_size, each.bits, each.mode, each.scales.dtype) for each in parts}) > 1:
        return None
    weight, scales = (mx.concatenate([getattr(each, name) for each in parts]) for name in ("weight", "scales"))
    biases = [each.biases for each in parts if each.biases is not None]
    return Packed(weight, scales, mx.concatenate(biases) if biases else None, first.group_size, first.bits, first.mode)


def packed_in(model: str, arrays: Mapping[str, mx.array], name: str, out: int, into: int) -> Packed | None:
    """Return the matrix ``name`` [out, into] of ``arrays``, whose shapes tell how it is packed; None if it is not.

    Raises ModelLoadFailed for arrays that do not fit each other or those sizes.
    """
    scales = arrays.get(f"{name}.scales")
    if scales is None:
        return None
    weight, biases = arrays.get(f"{name}.weight"), arrays.get(f"{name}.biases")
    if f"{name}.global_scale" in arrays:
        raise ModelLoadFailed(model, f"{name} has a global scale, which is not read here")
    if weight is None or weight.ndim != 2 or scales.ndim != 2 or not scales.shape[1]:
        raise ModelLoadFailed(model, f"{name} has scales {list(scales.shape)} and no words to which they belong")
    group_size, bits = into // scales.shape[1], weight.shape[1] * 32 // into
    affine = mx.issubdtype(scales.dtype, mx.floating)
    mode = "affine" if affine else _OF_BYTES.get((bits, group_size))
    fits = (
        mode is not None
        and (not affine or (bits in _BITS and group_size in _GROUPS))
        and weight.dtype == mx.uint32
        and (affine or scales.dtype == mx.uint8)
        and weight.shape == (out, into * bits // 32)
        and scales.shape == (out, into // group_size)
        and into % group_size == 0
        and (biases is not None) == affine
        and (biases is None or (biases.shape == scales.shape and biases.dtype == scales.dtype))
    )
    if not fits or mode is None:
        told = f"words {list(weight.shape)} and scales {scales.dtype} {list(scales.shape)}"
        raise ModelLoadFailed(model, f"{name} has {told}, which do not make a matrix {[out, into]}")
    return Packed(weight, scales, biases, group_size, bits, mode)

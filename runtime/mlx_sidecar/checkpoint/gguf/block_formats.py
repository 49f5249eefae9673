"""Moves GGUF's blocks of weights into mlx's affine layout: ``weight = scale * code + bias``, in groups of 32.

A block of GGUF holds 32 weights (a K-quant 256, in sub-blocks) as small whole numbers with a scale, and some with an
offset. Where that is affine with 32 weights to a scale, only bits move. Other formats are unpacked by the gguf package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

GROUP = 32
_LOW, _FOUR = np.uint8(15), np.uint8(4)

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.floating[Any]]]"
Bytes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"
Words: TypeAlias = "np.ndarray[Any, np.dtype[np.uint32]]"


class Affine(NamedTuple):
    """Weights in groups of 32. ``codes`` [rows, columns] are below 2^bits; ``scales``, ``biases`` [rows, columns / 32].

    Scales and biases are float32, which holds those of every format exactly.
    """

    codes: Bytes
    scales: Floats
    biases: Floats

    def unpacked(self) -> Floats:
        grouped = self.codes.reshape(*self.scales.shape, GROUP).astype(np.float32)
        weights = grouped * self.scales[..., None] + self.biases[..., None]
        return weights.reshape(self.codes.shape)


class BlockFormat(NamedTuple):
    """A format of GGUF's tensors: ``weights`` to a block of ``bytes``.

    ``affine``, of formats that are, takes blocks as bytes [blocks, bytes] to codes, scales and biases of the blocks'
    groups: [blocks, weights], [blocks, weights / 32] twice. ``half_is_exact`` if float16 holds scales and biases.
    """

    name: str
    weights: int
    bytes: int
    dtype: str | None = None
    bits: int = 0
    affine: Callable[[Bytes], Affine] | None = None
    half_is_exact: bool = True


def to_affine(format_: BlockFormat, rows: Bytes) -> Affine:
    """The weights of ``rows`` [rows, bytes of a row], of a format that is affine, without loss."""
    assert format_.affine is not None
    codes, scales, biases = format_.affine(rows.reshape(-1, format_.bytes))
    count = rows.shape[0]
    return Affine(codes.reshape(count, -1), scales.reshape(count, -1), biases.reshape(count, -1))


def to_floats(format_: BlockFormat, rows: Bytes) -> Floats:
    """The weights of ``rows`` [rows, bytes of a row] as float32."""
    if format_.dtype == "BF16":
        return (rows.view("<u2").astype(np.uint32) << 16).view(np.float32)
    if format_.dtype is not None:
        return rows.view("<f4" if format_.dtype == "F32" else "<f2").astype(np.float32)
    if format_.affine is not None:
        return to_affine(format_, rows).unpacked()
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    unpacked: Floats = dequantize(rows, GGMLQuantizationType[format_.name])
    return unpacked


def packed(codes: Bytes, bits: int) -> Words:
    """``codes`` [rows, columns] in mlx's layout: a row is one string of bits, the first code in its lowest ones."""
    if bits == 8:
        return np.ascontiguousarray(codes).view("<u4")
    if bits == 4:
        return np.ascontiguousarray(codes[:, ::2] | (codes[:, 1::2] << 4)).view("<u4")
    split = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little")
    return np.packbits(split.reshape(codes.shape[0], -1), axis=-1, bitorder="little").view("<u4")


def quantized(weights: Floats, bits: int) -> Affine:
    """``weights`` [rows, columns] rounded to the 2^bits steps between the least and the greatest of their group."""
    grouped = weights.reshape(weights.shape[0], -1, GROUP)
    least, greatest = grouped.min(axis=-1), grouped.max(axis=-1)
    # Scales are rounded to half precision first, because the codes are then the best ones for what is stored.
    scales = ((greatest - least) / (2**bits - 1)).astype(np.float16).astype(np.float32)
    biases = least.astype(np.float16).astype(np.float32)
    steps = (grouped - biases[..., None]) / np.where(scales == 0, 1, scales)[..., None]
    codes = np.clip(np.rint(steps), 0, 2**bits - 1).astype(np.uint8)
    return Affine(codes.reshape(weights.shape), scales, biases)


def _half(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte ``at`` of each block, as float32 [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(packed_: Bytes) -> Bytes:
    """Codes of 4 bits [blocks, 2 * bytes]: the low halves of all bytes, then the high ones."""
    return np.concatenate((packed_ & _LOW, packed_ >> _FOUR), axis=-1)


def _fifth_bits(packed_: Bytes) -> Bytes:
    """The fifth bits of 32 codes, as 16 or 0, from 4 bytes [blocks, 4]."""
    return np.unpackbits(packed_, axis=-1, bitorder="little") * np.uint8(16)


def _q4_0(blocks: Bytes) -> Affine:
    scales = _half(blocks, 0)
    return Affine(_nibbles(blocks[:, 2:]), scales, -8 * scales)


def _q4_1(blocks: Bytes) -> Affine:
    return Affine(_nibbles(blocks[:, 4:]), _half(blocks, 0), _half(blocks, 2))


def _q5_0(blocks: Bytes) -> Affine:
    scales = _half(blocks, 0)
    return Affine(_nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6]), scales, -16 * scales)


def _q5_1(blocks: Bytes) -> Affine:
    return Affine(_nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8]), _half(blocks, 0), _half(blocks, 2))


def _q8_0(blocks: Bytes) -> Affine:
    scales = _half(blocks, 0)
    return Affine(blocks[:, 2:] ^ np.uint8(128), scales, -128 * scales)  # a signed byte plus 128 has its top bit turned


def _sub_scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales and biases [blocks, 8] of a K-quant's eight sub-blocks, from two halves and 16 numbers of 6 bits."""
    low, high, mixed = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate((low & 63, (mixed & 15) | (low >> 6 << 4)), axis=-1)
    mins = np.concatenate((high & 63, (mixed >> 4) | (high >> 6 << 4)), axis=-1)
    return _half(blocks, 0) * scales, -_half(blocks, 2) * mins


def _sub_nibbles(packed_: Bytes) -> Bytes:
    """Codes of 4 bits [blocks, 256]: each 32 bytes hold a sub-block in their low halves, and the next in the high."""
    pairs = packed_.reshape(-1, 4, 1, 32)
    return np.concatenate((pairs & _LOW, pairs >> _FOUR), axis=2).reshape(-1, 256)


def _q4_k(blocks: Bytes) -> Affine:
    return Affine(_sub_nibbles(blocks[:, 16:]), *_sub_scales(blocks))


def _q5_k(blocks: Bytes) -> Affine:
    # Bit n of byte j is the fifth bit of weight j of sub-block n.
    fifth = np.unpackbits(blocks[:, 16:48, None], axis=-1, bitorder="little").swapaxes(1, 2).reshape(-1, 256)
    return Affine(_sub_nibbles(blocks[:, 48:]) | (fifth * np.uint8(16)), *_sub_scales(blocks))


# By GGUF's number. The rest of the formats that llama.cpp writes for weights: 256 weights, unpacked by the package.
FORMATS: dict[int, BlockFormat] = {
    0: BlockFormat("F32", 1, 4, "F32"),
    1: BlockFormat("F16", 1, 2, "F16"),
    30: BlockFormat("BF16", 1, 2, "BF16"),
    2: BlockFormat("Q4_0", 32, 18, None, 4, _q4_0),
    3: BlockFormat("Q4_1", 32, 20, None, 4, _q4_1),
    6: BlockFormat("Q5_0", 32, 22, None, 5, _q5_0),
    7: BlockFormat("Q5_1", 32, 24, None, 5, _q5_1),
    8: BlockFormat("Q8_0", 32, 34, None, 8, _q8_0),
    12: BlockFormat("Q4_K", 256, 144, None, 4, _q4_k, half_is_exact=False),
    13: BlockFormat("Q5_K", 256, 176, None, 5, _q5_k, half_is_exact=False),
    10: BlockFormat("Q2_K", 256, 84),
    11: BlockFormat("Q3_K", 256, 110),
    14: BlockFormat("Q6_K", 256, 210),
    16: BlockFormat("IQ2_XXS", 256, 66),
    17: BlockFormat("IQ2_XS", 256, 74),
    18: BlockFormat("IQ3_XXS", 256, 98),
    19: BlockFormat("IQ1_S", 256, 50),
    20: BlockFormat("IQ4_NL", 32, 18),
    21: BlockFormat("IQ3_S", 256, 110),
    22: BlockFormat("IQ2_S", 256, 82),
    23: BlockFormat("IQ4_XS", 256, 136),
    29: BlockFormat("IQ1_M", 256, 56),
}

"""Decides what becomes of each tensor of a GGUF file: its name in mlx-lm, and how its weights are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

from ..file_numbers import shown
from .architectures import OUTER, OUTPUT, Architecture, Part, Sizes
from .block_formats import GROUP, BlockFormat
from .header import GgufTensor
from .rope import FACTORS
from .safetensors_file import Planned

DType: TypeAlias = Literal["float16", "bfloat16", "float32"]
Bits: TypeAlias = Literal["auto", 4, 5, 6, 8]
KINDS: dict[DType, str] = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_DTYPES: dict[str, DType] = {kind: dtype for dtype, kind in KINDS.items()}

# Bits with which "auto" quantises again: two more than the format's own 2, 3, 4 or 6, for codes on another grid.
_AGAIN = {"Q2_K": 4, "Q3_K": 5, "IQ3_XXS": 5, "IQ3_S": 5, "IQ4_NL": 6, "IQ4_XS": 6, "Q6_K": 8}
_AGAIN_OTHERWISE = 4  # formats of 1 and 2 bits


class Target(NamedTuple):
    """A tensor, and what becomes of it.

    ``bits`` is 0 for weights that are stored as numbers. ``moved`` if their codes stay as they are. ``head_size`` is
    that of the heads whose rows GGUF moved, else 0. ``lowered``: 1 is taken from each weight.
    """

    source: GgufTensor
    name: str
    bits: int
    moved: bool
    head_size: int
    lowered: bool

    def planned(self, kind: str) -> Iterator[Planned]:
        """The tensors of the safetensors file; ``kind`` is the type of numbers."""
        source = self.source
        if not self.bits:
            yield Planned(self.name, kind, source.shape)
            return
        stem = self.name.removesuffix(".weight")
        yield Planned(self.name, "U32", (source.rows, source.columns * self.bits // 32))
        for part in ("scales", "biases"):
            yield Planned(f"{stem}.{part}", kind, (source.rows, source.columns // GROUP))


class Plan(NamedTuple):
    """``dtype`` is the type of all numbers; ``tied`` if the output is the embedding."""

    targets: tuple[Target, ...]
    dtype: DType
    tied: bool

    @property
    def planned(self) -> list[Planned]:
        return [each for target in self.targets for each in target.planned(KINDS[self.dtype])]


def plan(
    name: str,
    tensors: dict[str, GgufTensor],
    architecture: Architecture,
    sizes: Sizes,
    again: Bits | None,
    dtype: DType | None,
) -> Plan:
    """A target for each tensor of a model. ``again``: how to quantise again what mlx's layout cannot hold exactly.

    ``dtype`` of scales and other numbers; None takes that of the file's matrices, and float16 for quantised ones.
    Raises ModelLoadFailed naming a tensor that is missing or has another shape, ModelUnsupported naming one that is not
    known, and one that has to be quantised again where ``again`` is None.
    """
    left = {key: each for key, each in tensors.items() if key.removesuffix(".weight") not in FACTORS}
    tied = "output.weight" not in left or architecture.always_tied
    expected = list(_expected(architecture, sizes, left, tied=tied))
    found = [(_take(name, left, key, part, sizes), part, key) for key, part in expected]
    if left:
        raise ModelUnsupported(name, f"{shown(next(iter(left)))} is no tensor of this architecture")
    chosen = dtype or _dtype([tensor for tensor, part, _ in found if len(part.axes) > 1], architecture)
    targets = tuple(_target(name, tensor, part, key, architecture, sizes, again, chosen) for tensor, part, key in found)
    return Plan(targets, chosen, tied)


def _expected(
    architecture: Architecture, sizes: Sizes, tensors: dict[str, GgufTensor], *, tied: bool
) -> Iterator[tuple[str, Part]]:
    """GGUF's name, and the part under mlx-lm's full name, of all tensors that the model must have."""
    biases = set(architecture.biases)
    for names in architecture.optional_biases.values():
        if any(f"blk.0.{each}.bias" in tensors for each in names):
            biases.update(names)
    for key, part in (OUTER | ({} if tied else OUTPUT)).items():
        yield f"{key}.weight", Part(f"{part.name}.weight", part.axes)
    for layer in range(sizes.layers):
        for key, part in architecture.layer.items():
            stem = f"model.layers.{layer}.{part.name}"
            yield f"blk.{layer}.{key}.weight", Part(f"{stem}.weight", part.axes)
            if key in biases:
                yield f"blk.{layer}.{key}.bias", Part(f"{stem}.bias", part.axes[0])


def _take(name: str, left: dict[str, GgufTensor], key: str, part: Part, sizes: Sizes) -> GgufTensor:
    tensor = left.pop(key, None)
    if tensor is None:
        raise ModelLoadFailed(name, f"{key} is missing")
    if tensor.shape != sizes.shape(part.axes):
        raise ModelLoadFailed(name, f"{key} has the shape {tensor.shape}, not {sizes.shape(part.axes)}")
    if len(part.axes) == 1 and tensor.format.dtype is None:
        raise ModelUnsupported(name, f"{key} is quantised as {tensor.format.name}, and a vector")
    return tensor


def _dtype(matrices: list[GgufTensor], architecture: Architecture) -> DType:
    if any(tensor.format.dtype is None for tensor in matrices):
        return "float32" if architecture.overflows_half else "float16"
    weights: dict[str, int] = {}
    for tensor in matrices:
        kind = str(tensor.format.dtype)
        weights[kind] = weights.get(kind, 0) + tensor.rows * tensor.columns
    most = max(weights, key=lambda kind: weights[kind])
    return _DTYPES[most]


def _target(
    name: str,
    tensor: GgufTensor,
    part: Part,
    key: str,
    architecture: Architecture,
    sizes: Sizes,
    again: Bits | None,
    dtype: DType,
) -> Target:
    rotated = architecture.interleaved_rope and key.split(".")[-2] in ("attn_q", "attn_k")
    lowered = architecture.raised_norms and key.endswith("norm.weight")
    bits, moved = _storage(name, tensor, again, dtype)
    return Target(tensor, part.name, bits, moved, sizes.head_size if rotated else 0, lowered)


def _storage(name: str, tensor: GgufTensor, again: Bits | None, dtype: DType) -> tuple[int, bool]:
    """Bits of a weight, and whether its code stays; (0, False) for numbers."""
    format_ = tensor.format
    if format_.dtype is not None:
        return 0, False
    if is_exact(format_, dtype):
        return format_.bits, True
    if again is None:
        because = f"{shown(tensor.name)} is {format_.name}, which mlx's layout does not hold without loss"
        raise ModelUnsupported(name, f"{because}; --requantize auto quantises it again")
    if format_.affine is not None and again in ("auto", format_.bits):
        return format_.bits, True
    return (_AGAIN.get(format_.name, _AGAIN_OTHERWISE) if again == "auto" else again), False


def is_exact(format_: BlockFormat, dtype: DType) -> bool:
    """Whether mlx's layout with scales of type ``dtype`` holds all that the format can say."""
    return format_.affine is not None and (dtype == "float32" or (dtype == "float16" and format_.half_is_exact))

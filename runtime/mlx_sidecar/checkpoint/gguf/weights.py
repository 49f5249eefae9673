"""Writes the weights of a GGUF file into a safetensors file, some rows at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlx_sidecar_protocol.errors import ModelLoadFailed

from ..file_numbers import shown
from .block_formats import Affine, Bytes, Floats, packed, quantized, to_affine, to_floats
from .header import GgufTensor
from .plan import DType, Plan, Target
from .safetensors_file import SafetensorsFile

# Weights that are worked on at once: 12 bytes of memory for each, 40 where bits are spread out.
_CHUNK_WEIGHTS = 1 << 20

OnBytes = Callable[[int, int], None]


@dataclass
class Rounding:
    """The account of the tensors of one format: ``error`` is |stored - original| / |original| over all weights."""

    format: str
    stored: str
    tensors: int = 0
    squared_error: float = 0.0
    squared: float = 0.0

    @property
    def error(self) -> float:
        return float(np.sqrt(self.squared_error / self.squared)) if self.squared else 0.0

    @property
    def words(self) -> str:
        """A line for a person."""
        how = f"error {self.error:.2g} of their size" if self.error else "without loss"
        return f"{self.tensors} tensors of {self.format} as {self.stored}: {how}"


@dataclass
class Writing:
    """The copying of one file's weights. ``roundings`` are by format and by how it was stored."""

    name: str
    path: Path
    plan: Plan
    on_bytes: OnBytes | None
    roundings: dict[tuple[str, str], Rounding] = field(default_factory=dict)

    def run(self, output: Path) -> None:
        """Write all tensors to the file ``output``.

        Raises ModelLoadFailed for a scale that the stored type does not hold, and if the file has become shorter.
        """
        total, done = sum(target.source.nbytes for target in self.plan.targets), 0
        with SafetensorsFile(output, self.plan.planned) as file, self.path.open("rb", buffering=0) as source:
            for target in self.plan.targets:
                for first, rows in _chunks(self.name, source.fileno(), target):
                    self._write(file, target, first, rows)
                    done += rows.nbytes
                    if self.on_bytes is not None:
                        self.on_bytes(done, total)

    def _write(self, file: SafetensorsFile, target: Target, first: int, rows: Bytes) -> None:
        rounding = self._rounding(target)
        rounding.tensors += first == 0
        if not target.bits:
            numbers = to_floats(target.source.format, rows) - (1 if target.lowered else 0)
            stored = self._numbers(target, numbers)
            file.write_rows(target.name, first, stored)
            self._compare(rounding, numbers, lambda: _floats(stored, self.plan.dtype))
            return
        original, affine = _affine(target, rows)
        scales, biases = self._numbers(target, affine.scales), self._numbers(target, affine.biases)
        stem = target.name.removesuffix(".weight")
        file.write_rows(target.name, first, packed(affine.codes, target.bits))
        file.write_rows(f"{stem}.scales", first, scales)
        file.write_rows(f"{stem}.biases", first, biases)
        dtype = self.plan.dtype
        if original is not None:
            kept = Affine(affine.codes, _floats(scales, dtype), _floats(biases, dtype))
            self._compare(rounding, original, kept.unpacked)

    def _numbers(self, target: Target, numbers: Floats) -> np.ndarray[Any, np.dtype[Any]]:
        """``numbers`` in the type of the model's numbers, bfloat16 as its bits."""
        with np.errstate(over="ignore"):
            stored = _stored(numbers, self.plan.dtype)
        if not np.isfinite(_floats(stored, self.plan.dtype)).all():
            because = f"{shown(target.source.name)} holds numbers that {self.plan.dtype} does not"
            raise ModelLoadFailed(self.name, f"{because}; --dtype float32 may")
        return stored

    def _rounding(self, target: Target) -> Rounding:
        format_ = target.source.format.name
        stored = f"{target.bits} bits" if target.bits else self.plan.dtype
        return self.roundings.setdefault((format_, stored), Rounding(format_, stored))

    def _compare(self, rounding: Rounding, original: Floats, stored: Callable[[], Floats]) -> None:
        difference = (stored() - original).astype(np.float64, copy=False)
        rounding.squared_error += float(np.square(difference).sum())
        rounding.squared += float(np.square(original, dtype=np.float64).sum())


def read_floats(name: str, path: Path, tensor: GgufTensor) -> Floats:
    """All numbers of a small ``tensor`` of the file ``path``, in one row."""
    with path.open("rb", buffering=0) as source:
        return to_floats(tensor.format, _read(name, source.fileno(), tensor, 0, 1)).reshape(-1)


def _chunks(name: str, source: int, target: Target) -> Iterator[tuple[int, Bytes]]:
    """The first row's number and bytes [rows, bytes of a row], in mlx-lm's order of rows; a vector is one column."""
    tensor = target.source
    if len(tensor.shape) == 1:
        tensor = tensor._replace(shape=(*tensor.shape, 1))
    unit = target.head_size or 1
    count = max(_CHUNK_WEIGHTS // tensor.columns // unit, 1) * unit
    for first in range(0, tensor.rows, count):
        rows = _read(name, source, tensor, first, min(count, tensor.rows - first))
        if unit > 1:
            # GGUF has the two numbers of a rotation side by side; mlx-lm all first ones of a head, then all second.
            rows = rows.reshape(-1, unit // 2, 2, tensor.row_bytes).swapaxes(1, 2).reshape(rows.shape)
        yield first, rows


def _read(name: str, source: int, tensor: GgufTensor, first: int, count: int) -> Bytes:
    size = count * tensor.row_bytes
    data = os.pread(source, size, tensor.begin + first * tensor.row_bytes)
    if len(data) < size:
        raise ModelLoadFailed(name, f"the file ends in {shown(tensor.name)}")
    return np.frombuffer(data, np.uint8).reshape(count, tensor.row_bytes)


def _affine(target: Target, rows: Bytes) -> tuple[Floats | None, Affine]:
    """The weights of ``rows`` to be stored; and as they were, None where the two are the same."""
    format_ = target.source.format
    if target.moved:
        affine = to_affine(format_, rows)
        return (None if format_.half_is_exact else affine.unpacked()), affine
    weights = to_floats(format_, rows)
    return weights, quantized(weights, target.bits)


def _stored(numbers: Floats, dtype: DType) -> np.ndarray[Any, np.dtype[Any]]:
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")  # to the nearest, and to even between two
    return numbers.astype("<f2" if dtype == "float16" else "<f4")


def _floats(stored: np.ndarray[Any, np.dtype[Any]], dtype: DType) -> Floats:
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)

"""Reads and checks the header of a GGUF file: its metadata, and where its tensors lie.

The gguf package has a reader too. It believes every count and offset in the file, and takes 12 s for a vocabulary of
262,144 tokens, which this reads in a second.
"""

from __future__ import annotations

import os
import stat
import struct
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelNotFound, ModelUnsupported

from ..file_numbers import shown
from .block_formats import FORMATS, BlockFormat

# A vocabulary of 262,144 tokens with scores and merges has 20 MB; the largest chat templates in use 30 kB.
HEADER_LIMIT_BYTES = 256 * 2**20
_STRING_LIMIT_BYTES = 4 * 2**20
_KEY_LIMIT_BYTES = 1024
_NAME_LIMIT_BYTES = 128
_ENTRIES_LIMIT = 1 << 16
_ELEMENTS_LIMIT = 1 << 22  # of an array
_AXES_LIMIT = 4
_EXTENT_LIMIT = 1 << 31  # mlx keeps extents in 32 bits
_ALIGNMENT, _ALIGNMENT_LIMIT = 32, 1 << 20
_VERSIONS = (2, 3)

# Types of values, in the letters of struct, which numpy shares.
_NUMBERS = {number: struct.Struct(f"<{letter}") for number, letter in (*enumerate("BbHhIif"), *enumerate("Qqd", 10))}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_U32, _U64 = _NUMBERS[4], _NUMBERS[10]

Value: TypeAlias = "bool | int | float | str | list[str] | np.ndarray[Any, np.dtype[Any]]"


class GgufTensor(NamedTuple):
    """A tensor of a GGUF file. ``shape`` is in mlx's order, rows first; ``begin`` is a byte offset in the file."""

    name: str
    format: BlockFormat
    shape: tuple[int, ...]
    begin: int

    @property
    def rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def row_bytes(self) -> int:
        return self.columns // self.format.weights * self.format.bytes

    @property
    def nbytes(self) -> int:
        return self.rows * self.row_bytes


class Header(NamedTuple):
    """The part of a GGUF file before its tensors' data."""

    metadata: dict[str, Value]
    tensors: tuple[GgufTensor, ...]


def read_header(path: Path, name: str) -> Header:
    """Read and check the header of the GGUF file ``path``; ``name`` is the model's name in errors.

    Nothing is allocated for a count before the file is known to hold that much. Raises ModelNotFound if there is no
    such file, ModelLoadFailed for damage, ModelUnsupported naming a version or a tensor format that is not read.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ModelLoadFailed(name, f"{path.name} is no regular file")
            return _Reader(file, found.st_size, name).header()
    except FileNotFoundError as error:
        raise ModelNotFound(name, "there is no such file") from error
    except OSError as error:
        raise ModelLoadFailed(name, f"it cannot be read: {error.strerror}") from error


class _Reader:
    """Reads values from the front of ``file``, of ``size`` bytes; ``_where`` names what is being read, for errors."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self._file, self._size, self._name = file, size, name
        self._left = min(size, HEADER_LIMIT_BYTES)
        self._where = "its first bytes"

    def header(self) -> Header:
        tensors_count, entries_count = self._counts()
        metadata = self._metadata(entries_count)
        described = [self._described() for _ in range(tensors_count)]
        self._where = "general.alignment"
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if type(alignment) is not int or not 8 <= alignment <= _ALIGNMENT_LIMIT or alignment & (alignment - 1):
            raise self._damaged(f"{shown(alignment)} is no alignment")
        data_begin = -(-self._file.tell() // alignment) * alignment
        tensors = tuple(self._placed(*each, data_begin, alignment) for each in described)
        self._check_places(tensors)
        return Header(metadata, tensors)

    def _counts(self) -> tuple[int, int]:
        if self._take(4) != b"GGUF":
            raise self._damaged("it is no GGUF file")
        version = self._number(_U32)
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            what = "big-endian GGUF" if swapped in _VERSIONS else f"GGUF of version {version}"
            raise ModelUnsupported(self._name, f"it is {what}; versions {_VERSIONS} of little-endian GGUF are read")
        tensors, entries = self._number(_U64), self._number(_U64)
        for count, what in ((tensors, "tensors"), (entries, "entries of metadata")):
            if count > _ENTRIES_LIMIT:
                raise self._damaged(f"it has {count} {what}, the limit is {_ENTRIES_LIMIT}")
        return tensors, entries

    def _metadata(self, count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for _ in range(count):
            self._where = "a key of its metadata"
            key = self._string(_KEY_LIMIT_BYTES)
            self._where = shown(key)
            if key in metadata:
                raise self._damaged("it is there twice")
            metadata[key] = self._value(self._number(_U32))
        return metadata

    def _value(self, kind: int) -> Value:
        if kind in _NUMBERS:
            number: int | float = self._number(_NUMBERS[kind])
            return number
        if kind == _BOOL:
            return self._take(1) != b"\0"
        if kind == _STRING:
            return self._string(_STRING_LIMIT_BYTES)
        if kind == _ARRAY:
            return self._array(self._number(_U32), self._number(_U64))
        raise self._damaged(f"{kind} is no type of a value")

    def _array(self, kind: int, count: int) -> Value:
        if count > _ELEMENTS_LIMIT:
            raise self._damaged(f"it has {count} elements, the limit is {_ELEMENTS_LIMIT}")
        if kind == _STRING:
            if count * 8 > self._left:  # a length of 8 bytes for each
                raise self._damaged("the file ends in it")
            return [self._string(_STRING_LIMIT_BYTES) for _ in range(count)]
        if kind in _NUMBERS or kind == _BOOL:
            dtype = np.dtype(_NUMBERS[kind].format if kind in _NUMBERS else "?")
            return np.frombuffer(self._take(count * dtype.itemsize), dtype)
        raise self._damaged(f"an array of type {kind} is not read")

    def _described(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, number of the format, and offset of a tensor."""
        self._where = "the name of a tensor"
        name = self._string(_NAME_LIMIT_BYTES)
        self._where = shown(name)
        axes = self._number(_U32)
        if not 1 <= axes <= _AXES_LIMIT:
            raise self._damaged(f"it has {axes} axes")
        shape = tuple(self._number(_U64) for _ in range(axes))
        if not all(0 < extent < _EXTENT_LIMIT for extent in shape):
            raise self._damaged(f"its shape is {shape}")
        return name, shape[::-1], self._number(_U32), self._number(_U64)

    def _placed(
        self, name: str, shape: tuple[int, ...], number: int, offset: int, data_begin: int, alignment: int
    ) -> GgufTensor:
        self._where = shown(name)
        if (format_ := FORMATS.get(number)) is None:
            raise ModelUnsupported(self._name, f"{self._where} has tensor format {number}, which is not known")
        if shape[-1] % format_.weights:
            raise self._damaged(f"its rows of {shape[-1]} are no blocks of {format_.weights}")
        tensor = GgufTensor(name, format_, shape, data_begin + offset)
        if offset % alignment or tensor.begin + tensor.nbytes > self._size:
            raise self._damaged("its data do not lie in the file")
        return tensor

    def _check_places(self, tensors: tuple[GgufTensor, ...]) -> None:
        if len({tensor.name for tensor in tensors}) < len(tensors):
            raise self._damaged("two tensors have one name")
        in_order = sorted(tensors, key=lambda each: each.begin)
        for one, next_ in pairwise(in_order):
            self._where = shown(next_.name)
            if one.begin + one.nbytes > next_.begin:
                raise self._damaged(f"its data overlap those of {shown(one.name)}")

    def _string(self, limit_bytes: int) -> str:
        size = self._number(_U64)
        if size > limit_bytes:
            raise self._damaged(f"a text has {size} bytes, the limit is {limit_bytes}")
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise self._damaged("a text is not UTF-8") from error

    def _number(self, layout: struct.Struct) -> Any:
        """A number; Any is int for the layouts of whole numbers, float for others."""
        return layout.unpack(self._take(layout.size))[0]

    def _take(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            over = self._size > HEADER_LIMIT_BYTES
            because = f"its header is longer than {HEADER_LIMIT_BYTES} bytes" if over else "the file ends in it"
            raise self._damaged(because)
        if len(taken := self._file.read(size)) < size:
            raise self._damaged("the file ends in it")
        return taken

    def _damaged(self, because: str) -> ModelLoadFailed:
        return ModelLoadFailed(self._name, f"{self._where}: {because}")

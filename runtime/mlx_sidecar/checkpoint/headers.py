"""Reads and checks the header of a safetensors file, without mlx, which does not check it."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, prod
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .file_checks import is_file
from .file_numbers import shown

# A file of 10 GB has a header of some 100 kB. All headers of a model of 10^12 parameters, expert by expert, have 30 MB.
HEADER_LIMIT_BYTES = 8 * 2**20
HEADERS_LIMIT_BYTES = 64 * 2**20
AXES_LIMIT = 8
_NAME_LIMIT = 512  # characters; the longest in use have a hundred

# The types that mlx reads.
BYTES_OF_KIND = {
    **dict.fromkeys(("I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E8M0"), 1),
}

_Extent = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]  # mlx keeps extents in 32 bits
_Offset = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class _Described(msgspec.Struct):
    dtype: str
    shape: Annotated[tuple[_Extent, ...], msgspec.Meta(max_length=AXES_LIMIT)]
    data_offsets: tuple[_Offset, _Offset]


_entries = msgspec.json.Decoder(dict[str, msgspec.Raw])
_described = msgspec.json.Decoder(_Described)
_ONCE = ("dtype", "shape", "data_offsets")


class Tensor(NamedTuple):
    """A tensor in a header; ``kind`` is its type in safetensors' spelling, ``begin`` and ``end`` are byte offsets."""

    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.end - self.begin


def read_header(model: str, file: Path) -> tuple[list[Tensor], int]:
    """The tensors of ``file``, in the order of their data and without gaps, and the size of its header in bytes.

    Raises ModelLoadFailed for damage, for a type that mlx does not read, and if ``file`` is no regular file.
    """
    text, data_bytes = _read(model, file)
    try:
        tensors = _tensors(text)
    except (ValueError, RecursionError) as error:
        # msgspec's errors are ValueErrors, and name the place: `$.data_offsets[0]`.
        raise _damaged(model, file, f"its header cannot be read: {shown(str(error))}") from error
    end = 0
    for tensor in tensors:
        if tensor.kind not in BYTES_OF_KIND:
            because = f"{file.name}: {shown(tensor.name)} is of type {shown(tensor.kind)}, which mlx does not read"
            raise ModelLoadFailed(model, because)
        if tensor.begin != end:
            raise _damaged(model, file, f"{shown(tensor.name)} does not follow the one before")
        if tensor.elements * BYTES_OF_KIND[tensor.kind] != tensor.nbytes:
            raise _damaged(model, file, f"its header cannot be read: {shown(tensor.name)} has another size")
        end = tensor.end
    if data_bytes != end:
        raise _damaged(model, file, f"its tensors should have {end} bytes, not {data_bytes}")
    return tensors, len(text)


def _read(model: str, file: Path) -> tuple[bytes, int]:
    """The header's text, and the number of bytes after it."""
    try:
        if not is_file(file, inf, model):
            raise ModelLoadFailed(model, f"there is no {file.name}")
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, HEADER_LIMIT_BYTES):
                raise _damaged(model, file, "its header does not fit into it")
            return stream.read(length), size - 8 - length
    except OSError as error:
        raise ModelLoadFailed(model, f"{file.name} cannot be read: {error.strerror}") from error


def _damaged(model: str, file: Path, because: str) -> ModelLoadFailed:
    return ModelLoadFailed(model, f"{file.name} is damaged: {because}")


def _tensors(text: bytes) -> list[Tensor]:
    """The tensors of a header, in the order of their data. Raises ValueError or RecursionError if it is malformed."""
    entries = _entries.decode(text)
    metadata = bytes(entries.pop("__metadata__", b""))
    _check_names(text, entries, metadata)
    tensors = []
    for name, entry in entries.items():
        if len(name) > _NAME_LIMIT:
            raise ValueError(f"a name has {len(name)} characters")
        found = _described.decode(entry)
        tensors.append(Tensor(name, found.dtype, found.shape, *found.data_offsets))
    return sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end))


def _check_names(text: bytes, entries: Mapping[str, msgspec.Raw], metadata: bytes) -> None:
    """Refuse duplicate names, of which a JSON decoder silently keeps the last one.

    Each key of ``_ONCE`` must occur exactly once for each tensor. Raises ValueError.
    """
    for word in _ONCE:
        quoted = f'"{word}"'.encode()
        if text.count(quoted) != len(entries) + metadata.count(quoted) + (word in entries):
            raise ValueError("a name comes twice")

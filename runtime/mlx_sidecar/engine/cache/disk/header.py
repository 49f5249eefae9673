"""The header of a file: that of safetensors, with all that a scan must know in its metadata.

A header is believed only as a whole: its digest covers every byte, and the sizes it gives must add up to the last byte
of the file. So a file that was cut, overwritten, renamed or written by another version is recognised before an array is
made of it.
"""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable
from itertools import chain
from math import prod
from typing import Annotated, NamedTuple

import msgspec
import xxhash

from ..segment import BLOCK
from .arrays import KINDS
from .names import IDENTITY, NAME_BYTES, FileName, from_little, little, names

VERSION = "mlx-sidecar prefix 1"
# Most of a header is tokens: a million of them take 5.4 MB, and a file of the tier has a few hundred.
LIMIT_BYTES = 8 << 20
_LENGTH_BYTES = 8
_ALIGNMENT = 64
_NO_DIGEST = "0" * 32
_MOST_AXES = 8

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
_AxisLength = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]  # mlx keeps them in 32 bits


class Damaged(Exception):
    """The file does not hold the bytes that were written under its name."""


class Foreign(Exception):
    """The file is not ours to use: of another version, of another program, or not readable for us."""


class Tensor(NamedTuple):
    """An array in a file: bytes ``begin`` to ``end`` of the payload."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """A header that was checked.

    ``tokens`` are those from ``start`` to ``stop``; ``parent`` is the name of the block before them, None at 0.
    ``names`` are those of the file's own blocks. Behind ``payload_at`` bytes there are ``payload_bytes`` of arrays: one
    for each span, which begins at its ``firsts``, and the checkpoints that are not None.
    """

    identity: str
    parent: bytes | None
    start: int
    stop: int
    tokens: array[int]
    names: tuple[bytes, ...]
    firsts: tuple[int, ...]
    spans: tuple[Tensor, ...]
    checkpoints: tuple[Tensor | None, ...]
    payload_at: int
    payload_bytes: int
    digest: str

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return self.payload_at + self.payload_bytes

    @property
    def file_name(self) -> FileName:
        """The name that a file with this header must have."""
        return FileName(self.start, self.stop, self.names[-1])


class Described(NamedTuple):
    """The content of a header that is to be written."""

    identity: str
    parent: bytes | None
    start: int
    tokens: array[int]
    firsts: tuple[int, ...]
    spans: tuple[Tensor, ...]
    checkpoints: tuple[Tensor | None, ...]
    digest: str


class _Versioned(msgspec.Struct):
    version: str = ""


class _Metadata(msgspec.Struct):
    version: str
    identity: str
    parent: str
    start: _Count
    stop: _Count
    tokens: str
    firsts: str
    checkpoints: Annotated[int, msgspec.Meta(ge=0, le=1 << 16)] = msgspec.field(name="marks")
    payload_digest: str
    header_digest: str


class _TensorInfo(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[list[_AxisLength], msgspec.Meta(max_length=_MOST_AXES)]
    data_offsets: tuple[_Count, _Count]


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_versioned = msgspec.json.Decoder(_Versioned)
_metadata = msgspec.json.Decoder(_Metadata, strict=False)
_firsts = msgspec.json.Decoder(list[_Count])
_info = msgspec.json.Decoder(_TensorInfo)


# Writing.


def encoded(described: Described) -> bytes:
    """Encode a header: the bytes in front of the payload, which begins at a multiple of 64."""
    fields = {"__metadata__": _stated(described), **_listed(described)}
    text = msgspec.json.encode(fields)
    text += b" " * (-(len(text) + _LENGTH_BYTES) % _ALIGNMENT)
    raw = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    return raw.replace(_digest_field(_NO_DIGEST), _digest_field(xxhash.xxh3_128_hexdigest(raw)))


def _stated(described: Described) -> dict[str, str]:
    return {
        "version": VERSION,
        "identity": described.identity,
        "parent": (described.parent or b"").hex(),
        "start": str(described.start),
        "stop": str(described.start + len(described.tokens)),
        "tokens": b64encode(little(described.tokens)).decode(),
        "firsts": msgspec.json.encode(described.firsts).decode(),
        "marks": str(len(described.checkpoints)),
        "payload_digest": described.digest,
        "header_digest": _NO_DIGEST,
    }


def _listed(described: Described) -> dict[str, dict[str, object]]:
    numbered = chain(
        ((f"span.{number}", tensor) for number, tensor in enumerate(described.spans)),
        ((f"mark.{number}", tensor) for number, tensor in enumerate(described.checkpoints) if tensor is not None),
    )
    return {
        name: {"dtype": kind, "shape": shape, "data_offsets": (begin, end)}
        for name, (kind, shape, begin, end) in numbered
    }


def _digest_field(digest: str) -> bytes:
    return f'"header_digest":"{digest}"'.encode()


# Reading.


def length(start: bytes, file_bytes: int) -> int:
    """Return the bytes of a header that begins with ``start``, in a file of ``file_bytes``. Raises Damaged."""
    count = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if len(start) < _LENGTH_BYTES or count > file_bytes - _LENGTH_BYTES:
        raise Damaged("it ends within its header")
    if count > LIMIT_BYTES:
        raise Damaged(f"its header has {count} bytes, the limit is {LIMIT_BYTES}")
    return _LENGTH_BYTES + count


def decoded(raw: bytes, file_bytes: int) -> Header:
    """Decode the header ``raw`` of a file of ``file_bytes``. Raises Damaged and Foreign."""
    try:
        fields = _fields.decode(raw[_LENGTH_BYTES:])
        metadata = _own(fields.pop("__metadata__", None))
        _check_digest(raw, metadata.header_digest)
        tensors = {name: _tensor(_info.decode(info)) for name, info in fields.items()}
        header = _header(metadata, tensors, len(raw), file_bytes)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Damaged(f"its header cannot be read: {error}") from error
    _check(header, len(tensors))
    return header


def _own(metadata: msgspec.Raw | None) -> _Metadata:
    try:
        version = _versioned.decode(metadata or b"{}").version
    except msgspec.ValidationError:
        version = ""
    if metadata is None or not version:
        raise Foreign("it is a safetensors file of somebody else")
    if version != VERSION:
        raise Foreign(f"it is of version {version!r}, this is {VERSION!r}")
    return _metadata.decode(metadata)


def _check_digest(raw: bytes, digest: str) -> None:
    field = _digest_field(digest)
    without = raw.replace(field, _digest_field(_NO_DIGEST))
    if raw.count(field) != 1 or xxhash.xxh3_128_hexdigest(without) != digest:
        raise Damaged("its header is not what was written")


def _tensor(info: _TensorInfo) -> Tensor:
    return Tensor(info.dtype, tuple(info.shape), *info.data_offsets)


def _header(metadata: _Metadata, tensors: dict[str, Tensor], payload_at: int, file_bytes: int) -> Header:
    firsts = _firsts.decode(metadata.firsts)
    tokens = from_little(b64decode(metadata.tokens, validate=True))
    parent = bytes.fromhex(metadata.parent) or None
    if any(f"span.{number}" not in tensors for number in range(len(firsts))):
        raise Damaged("arrays are missing in it")
    return Header(
        metadata.identity,
        parent,
        metadata.start,
        metadata.stop,
        tokens,
        tuple(names(metadata.identity, parent, tokens)),
        tuple(firsts),
        tuple(tensors[f"span.{number}"] for number in range(len(firsts))),
        tuple(tensors.get(f"mark.{number}") for number in range(metadata.checkpoints)),
        payload_at,
        file_bytes - payload_at,
        metadata.payload_digest,
    )


def _check(header: Header, count: int) -> None:
    """Check that all statements about a file, which has ``count`` arrays, fit together. Raises Damaged."""
    present = [tensor for tensor in (*header.spans, *header.checkpoints) if tensor is not None]
    sound = (
        len(present) == count
        and IDENTITY.fullmatch(header.identity)
        and header.start % BLOCK == 0
        and header.start < header.stop == header.start + len(header.tokens)
        and (header.parent is None if header.start == 0 else len(header.parent or b"") == NAME_BYTES)
        and all(_spans_to_the_end(header, *span) for span in zip(header.firsts, header.spans, strict=True))
        and _fill(present, header.payload_bytes)
    )
    if not sound:
        raise Damaged("what its header says does not fit together")


def _spans_to_the_end(header: Header, first: int, tensor: Tensor) -> bool:
    return first <= header.stop and len(tensor.shape) == 4 and tensor.shape[2] == header.stop - first


def _fill(tensors: Iterable[Tensor], payload_bytes: int) -> bool:
    """Whether each array takes the bytes of its shape, and together they take every byte once."""
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        kind = KINDS.get(tensor.kind)
        if kind is None or tensor.begin != end or tensor.begin % kind.itemsize:
            return False
        end = tensor.begin + prod(tensor.shape) * kind.itemsize
        if tensor.end != end:
            return False
    return end == payload_bytes

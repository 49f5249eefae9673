"""The file format: a segment is one safetensors file, written whole or not at all, and checked before it is used."""

from __future__ import annotations

import os
import secrets
import stat
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EIO, ELOOP
from pathlib import Path
from typing import NamedTuple, Self

import mlx.core as mx
import numpy as np
import xxhash
from typing_extensions import Buffer

from ..segment import Segment, Span
from .arrays import KINDS, content, from_content, kind_name
from .header import Damaged, Described, Foreign, Header, Tensor, decoded, encoded, length

TEMPORARY = ".tmp"
# Most headers are no longer than this, so that one read suffices.
_FIRST_READ_BYTES = 32 << 10
# A staging buffer that grew larger, for an imported file, is not kept.
_KEPT_BYTES = 64 << 20


# Writing.


class Packed(NamedTuple):
    """A file to be written: its ``parts`` in order, among them the arrays' own memory."""

    header: Header
    parts: tuple[Buffer, ...]


def pack(identity: str, parent: bytes | None, segment: Segment, tokens: array[int]) -> Packed:
    """Lay out ``segment`` and its ``tokens`` as a file; ``parent`` is the name of the block before it.

    Its arrays are evaluated. Raises Damaged if such a file could not be read back.
    """
    arrays = [
        *(span.data for span in segment.spans),
        *(state for state in segment.checkpoints if state is not None),
    ]
    placed = _placed(arrays)
    contents = [content(arrays[number]) for number in placed]
    digest = xxhash.xxh3_128()
    for part in contents:
        digest.update(part)
    spans = tuple(placed[number] for number in range(len(segment.spans)))
    checkpoints = iter(placed[number] for number in range(len(segment.spans), len(arrays)))
    head = encoded(
        Described(
            identity,
            parent,
            segment.start,
            tokens,
            tuple(span.first for span in segment.spans),
            spans,
            tuple(None if state is None else next(checkpoints) for state in segment.checkpoints),
            digest.hexdigest(),
        )
    )
    nbytes = len(head) + sum(tensor.end - tensor.begin for tensor in placed.values())
    length(head, nbytes)
    return Packed(decoded(head, nbytes), (head, *contents))


def _placed(arrays: Sequence[mx.array]) -> dict[int, Tensor]:
    """The place of each array in the file, in file order: those with large elements first, so that all are aligned."""
    placed: dict[int, Tensor] = {}
    end = 0
    kinds = [_kind(array) for array in arrays]
    for number in sorted(range(len(arrays)), key=lambda number: -KINDS[kinds[number]].itemsize):
        begin, end = end, end + arrays[number].nbytes
        placed[number] = Tensor(kinds[number], tuple(arrays[number].shape), begin, end)
    return placed


def _kind(array: mx.array) -> str:
    kind = kind_name(array)
    if kind is None:
        raise Damaged(f"it would hold elements of {array.dtype}")
    return kind


class Unfinished:
    """A file that is being written beside its place, of its whole size from the start; it is gone unless it is kept."""

    def __init__(self, path: Path, nbytes: int) -> None:
        """Make the file, readable by its owner only. Raises OSError, and leaves none."""
        self._path = path
        self._temporary = path.with_name(f".{secrets.token_hex(8)}{TEMPORARY}")
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        try:
            os.ftruncate(descriptor, nbytes)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def fill(self, packed: Packed) -> None:
        """Write the content. Raises OSError."""
        with self._file as file:
            for part in packed.parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())

    def keep(self) -> None:
        """Put the file into its place. Raises OSError, and then what was there is as it was."""
        self._temporary.replace(self._path)


def write_file(path: Path, packed: Packed) -> None:
    """Write ``packed`` to ``path``, readable by its owner only. Raises OSError, and then ``path`` is as it was."""
    with Unfinished(path, packed.header.nbytes) as file:
        file.fill(packed)
        file.keep()


# Reading.


def read_header(path: Path) -> Header:
    """Read the header of a file, and no more. Raises FileNotFoundError, Damaged, Foreign, and OSError."""
    with _opened(path, follow=False) as descriptor:
        return _read_header(descriptor)


class Reader:
    """Reads one file after the other into the same memory, because fresh pages would be cleared for each."""

    def __init__(self) -> None:
        self._staging = np.empty(0, np.uint8)

    def read(self, path: Path, limit_bytes: float) -> tuple[Header, Segment]:
        """Read a whole file, if it has at most ``limit_bytes``; symbolic links are refused.

        Raises FileNotFoundError, Damaged, Foreign, and OSError.
        """
        with _opened(path, follow=False) as descriptor:
            header = _read_header(descriptor)
            _check_size(header, limit_bytes)
            return header, self._segment(descriptor, header)

    def read_whole(self, path: Path, identity: str, limit_bytes: float) -> tuple[Header, Segment]:
        """Read a file that ``identity`` computed, from the first token on; symbolic links are followed.

        Raises like ``read``.
        """
        with _opened(path, follow=True) as descriptor:
            header = _read_header(descriptor)
            _check_size(header, limit_bytes)
            if header.identity != identity:
                raise Foreign("it was computed by other weights, or otherwise")
            if header.start:
                raise Foreign(f"it begins at token {header.start}")
            return header, self._segment(descriptor, header)

    def _segment(self, descriptor: int, header: Header) -> Segment:
        if len(self._staging) < header.payload_bytes:
            self._staging = np.empty(header.payload_bytes, np.uint8)
        payload = self._staging[: header.payload_bytes]
        _fill(descriptor, payload.data, header.payload_at)
        if xxhash.xxh3_128_hexdigest(payload.data) != header.digest:
            raise Damaged("its arrays are not what was written")

        def made(tensor: Tensor) -> mx.array:
            return from_content(tensor.kind, tensor.shape, payload[tensor.begin : tensor.end])

        spans = tuple(Span(first, made(tensor)) for first, tensor in zip(header.firsts, header.spans, strict=True))
        checkpoints = tuple(None if tensor is None else made(tensor) for tensor in header.checkpoints)
        if len(self._staging) > _KEPT_BYTES:
            self._staging = np.empty(0, np.uint8)
        return Segment(header.start, header.stop, spans, checkpoints)


def _check_size(header: Header, limit_bytes: float) -> None:
    if header.nbytes > limit_bytes:
        raise Foreign(f"it has {header.nbytes} bytes, the limit is {limit_bytes:.0f}")


@contextmanager
def _opened(path: Path, *, follow: bool) -> Iterator[int]:
    """Open a regular file. Raises Foreign if it may not be read, and Damaged if the disk cannot read it."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)  # without waiting, should it be a pipe
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == EIO:
            raise Damaged("the disk cannot read it") from error
        if error.errno == ELOOP or isinstance(error, PermissionError | IsADirectoryError):
            raise Foreign(str(error.strerror)) from error
        raise


def _read_header(descriptor: int) -> Header:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Foreign("it is no regular file")
    start = os.pread(descriptor, _FIRST_READ_BYTES, 0)
    end = length(start, status.st_size)
    if end > len(start):
        rest = bytearray(end - len(start))
        _fill(descriptor, memoryview(rest), len(start))
        start += rest
    return decoded(start[:end], status.st_size)


def _fill(descriptor: int, buffer: memoryview, offset: int) -> None:
    """Fill ``buffer`` from ``offset`` on. Raises Damaged if the file ends before."""
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if not count:
            raise Damaged("it became shorter while it was read")
        done += count

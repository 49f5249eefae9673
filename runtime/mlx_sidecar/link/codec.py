"""Frames on a link are MessagePack behind a length prefix of four bytes, little-endian."""

from __future__ import annotations

import struct
from typing import Generic, TypeVar

import msgspec

_PREFIX = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()
LONGEST_FRAME = 1 << 30  # bytes; no message is near it
T = TypeVar("T")


class LinkCorrupt(Exception):
    """The bytes on a link are no frame, or a frame for no request; nothing after it can be read."""


class Unreadable(msgspec.Struct, frozen=True):
    """A message that does not fit its struct, e.g. for a number out of range, with the request that it is about.

    ``type`` names the struct. One of ``op`` and ``seq`` is set.
    """

    type: str = ""
    op: int | None = None
    seq: int | None = None


_unreadable = msgspec.msgpack.Decoder(Unreadable)


def encode(message: msgspec.Struct) -> bytes:
    """``message`` as one frame.

    Raises OverflowError, UnicodeEncodeError or a msgspec error for a value that MessagePack cannot hold.
    """
    body = _encoder.encode(message)
    return _PREFIX.pack(len(body)) + body


class Decoder(Generic[T]):
    """Cuts frames out of any split of the bytes, and decodes them.

    A message that does not fit its struct becomes ``Unreadable``, because values come from files and hosts, and one odd
    number is a fault of one request. Raises ``LinkCorrupt`` if not even its request can be read.
    """

    def __init__(self, union: type[T]) -> None:
        self._decoder = msgspec.msgpack.Decoder(union)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T | Unreadable]:
        self._buffer += data
        messages: list[T | Unreadable] = []
        start = 0
        while len(self._buffer) - start >= _PREFIX.size:
            (size,) = _PREFIX.unpack_from(self._buffer, start)
            if size > LONGEST_FRAME:
                raise LinkCorrupt(f"a frame of {size} bytes")
            end = start + _PREFIX.size + size
            if len(self._buffer) < end:
                break
            messages.append(self._read(bytes(self._buffer[start + _PREFIX.size : end])))
            start = end
        del self._buffer[:start]
        return messages

    def _read(self, frame: bytes) -> T | Unreadable:
        try:
            return self._decoder.decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError) as error:
            return _addressed(frame, error)


def _addressed(frame: bytes, error: Exception) -> Unreadable:
    """The request that ``frame``, which fits no struct because of ``error``, is about."""
    try:
        found = _unreadable.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError):
        raise LinkCorrupt(str(error)) from error
    if found.op is None and found.seq is None:
        raise LinkCorrupt(f"{found.type}: {error}") from error
    return found

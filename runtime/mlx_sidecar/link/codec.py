"""Length-prefixed MessagePack over a stream socket: four bytes little-endian, then the message."""

from __future__ import annotations

import struct
from typing import Generic, TypeVar

import msgspec

_PREFIX = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()
LONGEST_FRAME = 1 << 30  # bytes; nothing that is said is near it
T = TypeVar("T")


class LinkCorrupt(Exception):
    """What came over the link is no frame. After it nothing of that link can be read."""


def encode(message: msgspec.Struct) -> bytes:
    """One frame, ready to send."""
    body = _encoder.encode(message)
    return _PREFIX.pack(len(body)) + body


class Decoder(Generic[T]):
    """Cuts frames out of any split of the bytes. The peer is our own process, so a bad frame is a bug: it raises

    ``LinkCorrupt`` or a msgspec error.
    """

    def __init__(self, union: type[T]) -> None:
        self._decoder = msgspec.msgpack.Decoder(union)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T]:
        self._buffer += data
        messages: list[T] = []
        start = 0
        while len(self._buffer) - start >= _PREFIX.size:
            (size,) = _PREFIX.unpack_from(self._buffer, start)
            if size > LONGEST_FRAME:
                raise LinkCorrupt(f"a frame of {size} bytes")
            end = start + _PREFIX.size + size
            if len(self._buffer) < end:
                break
            messages.append(self._decoder.decode(bytes(self._buffer[start + _PREFIX.size : end])))
            start = end
        del self._buffer[:start]
        return messages

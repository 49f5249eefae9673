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
    """What came over the link is no frame, or one of nobody. After it nothing of that link can be read."""


class Unreadable(msgspec.Struct, frozen=True):
    """A message that its struct does not fit, e.g. for a number out of range; and which request it was about.

    ``type`` names the struct. One of ``op`` and ``seq`` is there.
    """

    type: str = ""
    op: int | None = None
    seq: int | None = None


_unreadable = msgspec.msgpack.Decoder(Unreadable)


def encode(message: msgspec.Struct) -> bytes:
    """One frame, ready to send.

    Raises OverflowError, UnicodeEncodeError or a msgspec error for what MessagePack cannot hold.
    """
    body = _encoder.encode(message)
    return _PREFIX.pack(len(body)) + body


class Decoder(Generic[T]):
    """Cuts frames out of any split of the bytes, and reads each in two steps.

    A message that its struct does not fit is ``Unreadable``: values come from files and hosts, so one odd number is a
    fault of one request. Raises ``LinkCorrupt`` where not even that can be read: the peer is our own process.
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
    """Whose message ``frame`` is, which fits no struct for the reason in ``error``."""
    try:
        found = _unreadable.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError):
        raise LinkCorrupt(str(error)) from error
    if found.op is None and found.seq is None:
        raise LinkCorrupt(f"{found.type}: {error}") from error
    return found

"""Damage that can happen to a text on its way. Each function takes and returns a text that is not empty."""

from __future__ import annotations

from random import Random

LIMIT_BYTES = 64 * 1024  # of a frame: the sidecar is started with it

# No JSON can say these; they are written into the text.
_ODD_NUMBERS = [b"NaN", b"-Infinity", b"1e999", b"01", b"+1", b".5", b"1.", b"0x10", b"1" * 400, b"-", b"1e", b"1_0"]


def _flip(pick: Random, frame: bytes) -> bytes:
    data = bytearray(frame)
    for _ in range(pick.randint(1, 3)):
        data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
    return bytes(data)


def _cut(pick: Random, frame: bytes) -> bytes:
    return frame[: pick.randint(1, len(frame))]


def _drop(pick: Random, frame: bytes) -> bytes:
    at = pick.randrange(len(frame))
    return frame[:at] + frame[at + pick.randint(1, 8) :] or b"0"


def _repeat(pick: Random, frame: bytes) -> bytes:
    at = pick.randrange(len(frame))
    end = at + pick.randint(1, 40)
    return frame[:end] + frame[at:]


def _insert(pick: Random, frame: bytes) -> bytes:
    odd = [
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf0\x9f",
        b"\xef\xbb\xbf",
        b"\x00",
        b"\r",
        b"\n",
        b"\\ud83d",
        b"\\u12",
    ]
    at = pick.randint(0, len(frame))
    return frame[:at] + pick.choice(odd) + frame[at:]


def _duplicate_member(pick: Random, frame: bytes) -> bytes:
    name = pick.choice((b"id", b"method", b"params", b"jsonrpc", b"model"))
    return frame.replace(b"{", b'{"%b": 5, ' % name, 1)


def _odd_number(pick: Random, frame: bytes) -> bytes:
    numbers = [at for at, byte in enumerate(frame) if 48 <= byte <= 57]
    if not numbers:
        return frame
    at = pick.choice(numbers)
    return frame[:at] + pick.choice(_ODD_NUMBERS) + frame[at + 1 :]


def _nest(pick: Random, frame: bytes) -> bytes:
    depth = pick.choice((2, 100, 127, 128, 129, 300, 5000))
    begin, end = pick.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return begin * depth + frame + end * (depth - pick.randint(0, 1))


def _grow(pick: Random, frame: bytes) -> bytes:
    if pick.random() > 0.02:  # a large one costs as much as hundreds
        return frame
    return frame.replace(
        b'"', b'"' + b"g" * pick.choice((4000, LIMIT_BYTES - 500, LIMIT_BYTES - len(frame), LIMIT_BYTES)), 1
    )


def _noise(pick: Random, frame: bytes) -> bytes:
    return pick.randbytes(min(len(frame), pick.randint(1, 60)))


DAMAGES = (
    _flip,
    _flip,
    _flip,
    _cut,
    _cut,
    _drop,
    _repeat,
    _insert,
    _insert,
    _duplicate_member,
    _odd_number,
    _nest,
    _grow,
    _noise,
)

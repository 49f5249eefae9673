"""What a tokenizer's tokens stand for, as a table that crosses a link once for each model.

The text process makes it of files that came with a model; other processes make text and bytes of tokens with it, and
need neither the files nor the library that reads them. How tokens become text is one of two families:

Byte-level: each character of a token stands for a byte; the bytes of all tokens together are UTF-8.
SentencePiece-like: tokens are text in which one character stands for a space, and a byte with no token is ``<0x0A>``.
Anything else only the tokenizer itself can decode.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from functools import cache, cached_property

import msgspec


class ByteLevel(msgspec.Struct, frozen=True, tag=True):
    """Bytes of all tokens joined, then read as UTF-8, where whatever is invalid becomes U+FFFD."""


class Pieces(msgspec.Struct, frozen=True, tag=True):
    """Text of all tokens joined, after ``replace`` (pairs of text, in order).

    ``byte_fallback``: tokens like ``<0x0A>`` are bytes; a run of them that is not UTF-8 becomes one U+FFFD for each.
    ``first``: what ``replace`` is for the first token, where that differs. ``strip``: (character, how many of it may go
    from the start of the whole text).
    """

    replace: tuple[tuple[str, str], ...]
    byte_fallback: bool = False
    first: tuple[tuple[str, str], ...] | None = None
    strip: tuple[str, int] = ("", 0)


class Strings(msgspec.Struct, frozen=True, dict=True):
    """A list of strings in one piece: their UTF-8, and where each one ends in it (32 bits each)."""

    data: bytes
    ends: bytes

    @classmethod
    def of(cls, strings: Iterable[str]) -> Strings:
        data, ends = bytearray(), array("I")
        for string in strings:
            data += string.encode(errors="replace")
            ends.append(len(data))
        return cls(bytes(data), ends.tobytes())

    def __getitem__(self, at: int) -> str:
        return self.data[self._ends[at - 1] if at else 0 : self._ends[at]].decode()

    @cached_property
    def _ends(self) -> memoryview:
        return memoryview(self.ends).cast("I")


class TokenTable(msgspec.Struct, frozen=True, dict=True):
    """The vocabulary's own string for each token id, and how such strings become text.

    ``ids`` in rising order (32 bits each), each with its string in ``strings``; ``special_ids`` are flagged as special.
    ``family`` is None where only the tokenizer can decode; ``texts`` are there what each token says by itself.
    """

    ids: bytes
    strings: Strings
    special_ids: bytes
    family: ByteLevel | Pieces | None
    texts: Strings | None = None

    @cached_property
    def special(self) -> frozenset[int]:
        """Tokens flagged as special."""
        return frozenset(unpacked(self.special_ids))

    def token(self, token: int) -> str | None:
        """The vocabulary's own string for a token id; None if the id stands for nothing."""
        at = self._index(token)
        return None if at is None else self.strings[at]

    def text(self, token: int) -> str:
        """What ``token`` says by itself, where there are ``texts``."""
        at = self._index(token)
        return "" if at is None or self.texts is None else self.texts[at]

    def _index(self, token: int) -> int | None:
        at = bisect_left(self._ids, token)
        return at if at < len(self._ids) and self._ids[at] == token else None

    @cached_property
    def _ids(self) -> memoryview:
        return memoryview(self.ids).cast("I")


def packed(tokens: Iterable[int]) -> bytes:
    """Token ids as they cross a link: 32 bits each. Both ends run on one machine, so the order of bytes is its own."""
    return (tokens if isinstance(tokens, array) else array("I", tokens)).tobytes()


def unpacked(tokens: bytes) -> list[int]:
    """The reverse of ``packed``."""
    return memoryview(tokens).cast("I").tolist()


@cache
def _byte_of() -> dict[str, int]:
    """The characters of byte-level tokens. Printable bytes stand for themselves, the others for U+0100 and on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def token_bytes(token: str) -> bytes:
    """The bytes of a byte-level token; one with any other character in it is plain text."""
    byte_of = _byte_of()
    try:
        return bytes([byte_of[character] for character in token])
    except KeyError:
        return token.encode()


def fallback_byte(text: str) -> int | None:
    """The byte that ``<0x0A>`` stands for; None if ``text`` is no such token."""
    if len(text) != 6 or not text.isascii() or not text.startswith("<0x") or not text.endswith(">"):
        return None
    digits = text[3:5].removeprefix("+") if text[3] == "+" else text[3:5]  # Rust's parser takes a sign
    return int(digits, 16) if digits and all(digit in "0123456789abcdefABCDEF" for digit in digits) else None


def replaced(token: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        token = token.replace(old, new)
    return token

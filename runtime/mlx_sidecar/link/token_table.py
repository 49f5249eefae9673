"""The token table holds the string of each token of a model, and crosses a link once for each model.

The text process makes it from a model's files. Other processes turn tokens into text with it, and need neither the
files nor the tokenizers library. Two families of decoding are known:

Byte-level: each character of a token stands for a byte; the bytes of all tokens together are UTF-8.
SentencePiece-like: tokens are text in which one character stands for a space, and a byte with no token is ``<0x0A>``.
Other tokenizers decode in the text process.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import cache, cached_property

import msgspec


class ByteLevel(msgspec.Struct, frozen=True, tag=True):
    """The bytes of all tokens are joined and read as UTF-8, where invalid bytes become U+FFFD."""


class Pieces(msgspec.Struct, frozen=True, tag=True):
    """The texts of all tokens are joined, after ``replace`` (pairs of old and new text, in order).

    ``byte_fallback``: tokens like ``<0x0A>`` are bytes; a run of them that is not UTF-8 becomes one U+FFFD for each.
    ``first`` takes the place of ``replace`` for the first token. ``strip``: a character, and the number of times it may
    be removed from the start of the whole text.
    """

    replace: tuple[tuple[str, str], ...]
    byte_fallback: bool = False
    first: tuple[tuple[str, str], ...] | None = None
    strip: tuple[str, int] = ("", 0)


class Strings(msgspec.Struct, frozen=True, dict=True):
    """A list of strings in one piece: their UTF-8, and the end of each in bytes (32 bits each)."""

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

    def find(self, string: str) -> int | None:
        """The first place of ``string``, which is not empty; None if it is not there."""
        data = string.encode()
        begin = self.data.find(data)
        while begin >= 0:
            at = bisect_right(self._ends, begin)
            if (self._ends[at - 1] if at else 0) == begin and self._ends[at] == begin + len(data):
                return at
            begin = self.data.find(data, begin + 1)
        return None

    @cached_property
    def _ends(self) -> memoryview:
        return memoryview(self.ends).cast("I")


class TokenTable(msgspec.Struct, frozen=True, dict=True):
    """The vocabulary's own string for each token id, and the family by which such strings become text.

    ``ids`` in rising order (32 bits each), each with its string in ``strings``; ``special_ids`` are flagged as special.
    ``family`` is None if only the tokenizer can decode; then ``texts`` holds the text of each token alone.
    """

    ids: bytes
    strings: Strings
    special_ids: bytes
    family: ByteLevel | Pieces | None
    texts: Strings | None = None

    @cached_property
    def special(self) -> frozenset[int]:
        """Token ids flagged as special."""
        return frozenset(unpacked(self.special_ids))

    def token(self, token: int) -> str | None:
        """The vocabulary's own string for a token id; None if the id stands for nothing."""
        at = self._index(token)
        return None if at is None else self.strings[at]

    def find(self, string: str) -> int | None:
        """The first token id whose own string is ``string``, which is not empty; None without one."""
        at = self.strings.find(string)
        return None if at is None else self._ids[at]

    def items(self) -> Iterator[tuple[int, str]]:
        """All token ids in rising order, each with its string."""
        return ((token, self.strings[at]) for at, token in enumerate(self._ids))

    def text(self, token: int) -> str:
        """The text of ``token`` alone, from ``texts``; "" without them."""
        at = self._index(token)
        return "" if at is None or self.texts is None else self.texts[at]

    def _index(self, token: int) -> int | None:
        at = bisect_left(self._ids, token)
        return at if at < len(self._ids) and self._ids[at] == token else None

    @cached_property
    def _ids(self) -> memoryview:
        return memoryview(self.ids).cast("I")


def packed(tokens: Iterable[int]) -> bytes:
    """Token ids as they cross a link: 32 bits each, in the machine's byte order, since both ends run on it."""
    return (tokens if isinstance(tokens, array) else array("I", tokens)).tobytes()


def unpacked(tokens: bytes) -> list[int]:
    """The reverse of ``packed``."""
    return memoryview(tokens).cast("I").tolist()


@cache
def _byte_of() -> dict[str, int]:
    """The byte of each character of byte-level tokens, by GPT-2's table: unprintable bytes begin at U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def token_bytes(token: str) -> bytes:
    """The bytes of a byte-level token; a token with any other character is plain text."""
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

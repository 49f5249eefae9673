"""How the decoder of a tokenizer turns tokens into text, read from its own description (the ``decoder`` of
``tokenizer.json``), for the two families that nearly every language model belongs to.

Byte-level: each character of a token stands for a byte; the bytes of all tokens together are UTF-8.
SentencePiece-like: tokens are text in which one character stands for a space, and a byte with no token is ``<0x0A>``.
Anything else is left to the tokenizer itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True, slots=True)
class ByteLevel:
    """Bytes of all tokens joined, then read as UTF-8, where whatever is invalid becomes U+FFFD."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Text of all tokens joined, after ``replace`` (pairs of text, in order).

    ``byte_fallback``: tokens like ``<0x0A>`` are bytes; a run of them that is not UTF-8 becomes one U+FFFD for each.
    ``first``: what ``replace`` is for the first token, where that differs. ``strip``: (character, how many of it may go
    from the start of the whole text).
    """

    replace: tuple[tuple[str, str], ...]
    byte_fallback: bool = False
    first: tuple[tuple[str, str], ...] | None = None
    strip: tuple[str, int] = ("", 0)


def family(decoder: Mapping[str, Any] | None) -> ByteLevel | Pieces | None:
    """What a decoder description amounts to; None: neither family, ask the tokenizer itself."""
    steps = _steps(decoder)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return ByteLevel()
    if kinds == ["Metaspace"]:
        return _metaspace(steps[0])
    return _sentencepiece(steps, kinds)


def _steps(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if decoder is None:
        return []
    return list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]


def _metaspace(step: Mapping[str, Any]) -> Pieces:
    space = step["replacement"]
    first = ((space, ""),) if step.get("prepend_scheme", "always") != "never" else None
    return Pieces(replace=((space, " "),), first=first)


def _sentencepiece(steps: list[Mapping[str, Any]], kinds: list[str]) -> Pieces | None:
    """Replace…, then ByteFallback?, Fuse, Strip? in this order: with Fuse in between, Strip sees the whole text."""
    replaces = 0
    while kinds[replaces : replaces + 1] == ["Replace"]:
        replaces += 1
    byte_fallback = kinds[replaces : replaces + 1] == ["ByteFallback"]
    end = kinds[replaces + byte_fallback :]
    strip: Mapping[str, Any] = steps[-1] if end == ["Fuse", "Strip"] else {"content": "", "start": 0, "stop": 0}
    patterns = [step["pattern"].get("String") for step in steps[:replaces]]
    # A regular expression, or stripping at the end of the whole text, is not a matter of one token.
    if end not in (["Fuse"], ["Fuse", "Strip"]) or not all(patterns) or strip["stop"]:
        return None
    pairs = tuple((pattern, step["content"]) for pattern, step in zip(patterns, steps, strict=False))
    return Pieces(replace=pairs, byte_fallback=byte_fallback, strip=(strip["content"], strip["start"]))


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

"""Names of blocks and of files: the name of a block stands for all tokens up to its end, and for the identity."""

from __future__ import annotations

import re
import sys
from array import array
from hashlib import blake2b
from typing import NamedTuple

from ..segment import BLOCK

NAME_BYTES = 16
IDENTITY = re.compile(r"[0-9a-f]{1,64}")
_FILE = re.compile(r"(0|[1-9][0-9]{0,9})-([1-9][0-9]{0,9})-([0-9a-f]{32})\.safetensors")


class FileName(NamedTuple):
    """The name of a file with tokens ``start`` to ``stop`` of a prompt; ``end`` is the name of its last block."""

    start: int
    stop: int
    end: bytes

    def __str__(self) -> str:
        return f"{self.start}-{self.stop}-{self.end.hex()}.safetensors"


def parsed(name: str) -> FileName | None:
    """Parse a file name; None if a file of this tier cannot have it."""
    match = _FILE.fullmatch(name)
    return FileName(int(match[1]), int(match[2]), bytes.fromhex(match[3])) if match else None


def little(tokens: array[int]) -> bytes:
    """Encode tokens as little-endian int32."""
    if sys.byteorder == "big":
        tokens = tokens[:]
        tokens.byteswap()
    return tokens.tobytes()


def from_little(data: bytes) -> array[int]:
    """Decode what ``little`` encoded. Raises ValueError if ``data`` is no whole number of tokens."""
    tokens = array("i", data)
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens


def names(identity: str, parent: bytes | None, tokens: array[int]) -> list[bytes]:
    """Return the names of the blocks of ``tokens``, which begin with a block; the last may be a part of one.

    ``parent`` is the name of the block before them, None if they are the first.
    """
    name = blake2b(identity.encode(), digest_size=NAME_BYTES).digest() if parent is None else parent
    data, step = little(tokens), BLOCK * 4
    found: list[bytes] = []
    for begin in range(0, len(data), step):
        name = blake2b(name + data[begin : begin + step], digest_size=NAME_BYTES).digest()
        found.append(name)
    return found


class Namer:
    """Names whole prompts; keeps the last one's names, because the next segment is mostly of the same prompt."""

    def __init__(self) -> None:
        self._identity = ""
        self._tokens = array("i")
        self._names: list[bytes] = []

    def names(self, identity: str, tokens: array[int]) -> list[bytes]:
        """Return the names of the blocks of ``tokens``, which are the first of a prompt."""
        known = min(len(tokens), len(self._tokens)) // BLOCK
        if identity != self._identity or tokens[: known * BLOCK] != self._tokens[: known * BLOCK]:
            known = 0
        found = self._names[:known]
        found += names(identity, found[-1] if found else None, tokens[known * BLOCK :])
        self._identity, self._tokens, self._names = identity, tokens, found
        return found

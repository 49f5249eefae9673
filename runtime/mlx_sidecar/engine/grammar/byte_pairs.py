"""Bytes are cut into the tokens that a byte-pair tokenizer would give them, as far as a table of tokens tells.

The rank of a merge is taken to be the id of the token that it makes, because vocabularies list their merges in the
order in which they were learnt. How a text is split before its pairs are merged is not in the table, but merges across
such a split are seldom in a vocabulary. One is: the last of several spaces belongs to the word behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

# Pairs are merged in so many bytes; a grammar may force megabytes, of which the rest is asked for again later.
LONGEST_BYTES = 512

_NEVER = 1 << 32
_LAST_SPACE = re.compile(rb"(?<=\s)(?= \S)")


class BytePairs:
    """Cuts bytes into tokens of ``ids``, which has an id for each single byte. Several threads may use it."""

    def __init__(self, ids: dict[bytes, int]) -> None:
        self._ids = ids
        # The same names and separators are forced in answer after answer.
        self._tokens = lru_cache(maxsize=4096)(self._cut)

    def tokens(self, text: bytes) -> list[int]:
        """Return tokens whose bytes are ``text``; behind its first ``LONGEST_BYTES`` each is one byte."""
        rest = text[LONGEST_BYTES:]
        return [*self._tokens(text[:LONGEST_BYTES]), *(self._ids[rest[at : at + 1]] for at in range(len(rest)))]

    def _cut(self, text: bytes) -> tuple[int, ...]:
        return tuple(token for piece in _LAST_SPACE.split(text) for token in self._merged(piece))

    def _merged(self, text: bytes) -> list[int]:
        """Merge the adjacent parts of ``text`` that make the token of the lowest id, until no two make one."""
        parts = list(self._parts(text))
        ranks = [self._rank(parts, at) for at in range(len(parts) - 1)]
        while ranks and (least := min(ranks)) != _NEVER:
            at = ranks.index(least)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
            del ranks[at]
            for changed in (at - 1, at):
                if 0 <= changed < len(ranks):
                    ranks[changed] = self._rank(parts, changed)
        return [self._ids[part] for part in parts]

    def _parts(self, text: bytes) -> Iterator[bytes]:
        """Yield the characters of ``text`` that are tokens, and the bytes of the others."""
        start = 0
        while start < len(text):
            end = start + 1
            while end < len(text) and text[end] & 0xC0 == 0x80:
                end += 1
            character = text[start:end]
            if character in self._ids:
                yield character
            else:
                yield from (text[at : at + 1] for at in range(start, end))
            start = end

    def _rank(self, parts: list[bytes], at: int) -> int:
        return self._ids.get(parts[at] + parts[at + 1], _NEVER)

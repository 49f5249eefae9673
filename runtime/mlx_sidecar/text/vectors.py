"""Encodes texts that are to be embedded, and pairs that are to be scored, with special tokens around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from mlx_sidecar_protocol.errors import ContextTooLong, UnsupportedParameter

from .prompts import around
from .tokens import Encoder


class Piece(NamedTuple):
    """The tokens of a text or a pair, whose second text begins at ``second``; 0 where there is none.

    ``cut``: tokens were left out.
    """

    tokens: list[int]
    second: int = 0
    cut: bool = False


def encode_texts(
    tokenizer: Encoder, texts: Sequence[str], before: str | None, limit: int, end: int | None
) -> Iterator[Piece]:
    """Encode each of ``texts``, behind ``before`` if that is given; at most ``limit`` tokens are left if it is not 0.

    ``end`` stands behind each text, where the tokenizer puts no token there. Raises ContextTooLong naming ``query``
    where it leaves nothing of a document, UnsupportedParameter naming ``model`` for a tokenizer that makes no pairs.
    """
    _, behind = around(tokenizer)
    closing = [] if behind or end is None else [end]
    kept = len(behind) + len(closing)
    for text in texts:
        tokens, second = (tokenizer.encode(text, True), 0) if before is None else _pair(tokenizer, before, text)
        tokens += closing
        if not limit or len(tokens) <= limit:
            yield Piece(tokens, second)
            continue
        if second >= limit - kept:
            raise ContextTooLong(have=second + kept, limit=limit, field="query")
        yield Piece(tokens[: limit - kept] + tokens[len(tokens) - kept :], second, cut=True)


def _pair(tokenizer: Encoder, first: str, second: str) -> tuple[list[int], int]:
    """The tokens of a pair, and where those of type 1 begin, or else those of the second text."""
    pair = tokenizer.pair(first, second)
    if pair is None:
        raise UnsupportedParameter("model", "its tokenizer is not of the tokenizers library, and makes no pairs")
    tokens, types = pair
    if any(later < earlier for earlier, later in pairwise(types)) or set(types) - {0, 1}:
        raise UnsupportedParameter("model", "its tokenizer numbers the texts of a pair in another way")
    begins = types.index(1) if 1 in types else len(tokenizer.encode(first, True))
    return tokens, begins

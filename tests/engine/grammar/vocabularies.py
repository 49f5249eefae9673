"""Vocabularies and matchers for tests of grammars."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from functools import cache
from typing import Any

from mlx_sidecar.engine.grammar.matcher import Matcher
from mlx_sidecar.engine.grammar.token_bytes import TokenBytes
from mlx_sidecar.engine.grammar.tokenizer import Tokenizer
from mlx_sidecar.link.messages import Vocabulary
from mlx_sidecar.link.token_table import packed

BYTES = [bytes([byte]) for byte in range(256)]
END = 256  # of the vocabularies here: it stands for no text
SPACES = r"[ \n\r\t]{1,8}"


def vocabulary(words: Iterable[bytes] = (), model: str = "m", special: Iterable[int] = ()) -> Vocabulary:
    """All bytes, an end of the turn, and ``words``; the end and the ``special`` stand for no text."""
    tokens = [*BYTES, b"<end>", *words]
    ends = array("I")
    for token in tokens:
        ends.append(len(token) + (ends[-1] if ends else 0))
    return Vocabulary(model, b"".join(tokens), ends.tobytes(), packed([END, *special]))


@cache
def tokenizer(words: tuple[bytes, ...] = ()) -> Tokenizer:
    return Tokenizer(TokenBytes.of(vocabulary(words)))


def matcher(grammar: str, words: tuple[bytes, ...] = (), beyond: int = 0) -> Matcher:
    """A matcher of an answer from its start; the model has ``beyond`` tokens that the table does not know."""
    made = tokenizer(words)
    return Matcher.compiled(made, grammar, made.size + beyond, [END])


def json_grammar(schema: dict[str, Any]) -> str:
    """A grammar for ``schema``, with separators as they are set and no more than 8 white spaces."""
    options = {"whitespace_pattern": SPACES}
    return f"start: %json {json.dumps({**schema, 'x-guidance': options})}"


def text_of(tokens: Iterable[int], words: tuple[bytes, ...] = ()) -> bytes:
    table = [*BYTES, b"", *words]
    return b"".join(table[token] for token in tokens)

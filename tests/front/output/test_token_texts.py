"""The texts of single tokens, for each family of tokenizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from mlx_sidecar.front.api import model_paths as resolve
from mlx_sidecar.front.output.token_texts import TokenTexts
from mlx_sidecar.link.token_table import ByteLevel, Pieces
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar.text.tokens import token_table

SENTENCEPIECE = Pieces(replace=(("▁", " "),), byte_fallback=True, strip=(" ", 1))


class Vocabulary:
    """Tokens with these strings."""

    size = 0
    special = frozenset({3})

    def __init__(self, family: ByteLevel | Pieces | None, strings: Mapping[int, str]) -> None:
        self.family = family
        self.ids = sorted(strings)
        self._strings = strings

    def encode(self, text: str, add_special: bool) -> list[int]:
        raise NotImplementedError

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str:
        return "".join(self._strings[token].upper() for token in tokens)

    def token(self, token: int) -> str | None:
        return self._strings.get(token)

    def token_id(self, text: str) -> int | None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("family", "string", "text"),
    [
        (ByteLevel(), "Ġhello", " hello"),
        (ByteLevel(), "Ã", "\ufffd"),  # the first byte of two
        (ByteLevel(), "Ã©", "é"),
        (ByteLevel(), "<|end|>", "<|end|>"),
        (SENTENCEPIECE, "▁hello", " hello"),  # also where it would begin a text
        (SENTENCEPIECE, "<0x0A>", "\n"),
        (SENTENCEPIECE, "<0xC3>", "\ufffd"),
        (None, "hello", "HELLO"),
    ],
)
def test_a_token_says_what_it_would_within_a_text(family: ByteLevel | Pieces | None, string: str, text: str) -> None:
    assert TokenTexts(token_table(Vocabulary(family, {3: string})))[3] == text


def test_an_id_that_stands_for_nothing_says_nothing() -> None:
    assert TokenTexts(token_table(Vocabulary(ByteLevel(), {})))[7] == ""


def test_the_tokens_of_an_ascii_text_say_it_together() -> None:
    pocket = TextModel.load(resolve.local(resolve.POCKET, None, None))
    text = "How do I cancel a stream?\n\tWith stream/cancel, or $/cancelRequest."
    texts = TokenTexts(pocket.table())
    assert "".join(texts[token] for token in pocket.encode(text, False)) == text

"""The text side of the fake engine's models: a token is a byte of UTF-8, 256 ends a turn, chats are ChatML."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from mlx_sidecar.text.controls import Encoded, Place
from mlx_sidecar.text.decoding import ByteLevel, token_bytes
from mlx_sidecar.text.detokenizer import Detokenizers
from mlx_sidecar.text.templates import ChatTemplates
from mlx_sidecar.text.token_texts import TokenTexts
from mlx_sidecar.text.tokenizer import TextModel

END = 256
_CHATML = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content or '' }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


class _NoControls:
    """No text becomes the one special token there is."""

    texts = frozenset[str]()
    characters = ()

    def text_of(self, token: int) -> str:
        return ""

    def encode(self, text: str) -> Encoded:
        return Encoded(list(text.encode()), [])

    def escaped(self, text: str, wanted: Sequence[Place] = ()) -> list[int]:
        return list(text.encode())


class ByteTokens:
    """A tokenizer without a file."""

    size = 257
    special = frozenset({END})
    family = ByteLevel()
    controls = _NoControls()

    def encode(self, text: str, add_special: bool) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str:
        return bytes(token for token in tokens if token < END).decode(errors="replace")

    def token(self, token: int) -> str | None:
        return _byte_strings().get(token)

    def token_id(self, text: str) -> int | None:
        return next((byte for byte, string in _byte_strings().items() if string == text), None)


@cache
def _byte_strings() -> dict[int, str]:
    """Byte → the character that byte-level tokenizers write for it; the end-of-turn token stands for no text."""
    strings = {data[0]: chr(code) for code in range(0x21, 0x144) if len(data := token_bytes(chr(code))) == 1}
    return {**strings, END: ""}


def fake_text() -> TextModel:
    """What ``TextModel.load`` is for a real model."""
    tokens = ByteTokens()
    return TextModel(
        name="fake",
        path=Path("fake"),
        vocabulary=tokens.size,
        context_length=None,
        eos_tokens=frozenset({END}),
        bos=None,
        special_tokens={},
        special_ids=tokens.special,
        token_texts=TokenTexts(tokens),
        _tokens=tokens,
        _chat=ChatTemplates({"default": _CHATML}, {}),
        _detokenizers=Detokenizers(tokens),
    )

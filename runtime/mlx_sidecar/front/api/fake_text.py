"""Fake text is the text side of the fake engine's models: a token is a byte of UTF-8, 256 ends a turn.

Chats are ChatML. No text process is needed, because there are no files of a model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any

from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate_result import CacheExplanation

from ...link.messages import Nearest
from ...link.text_messages import TextWarning
from ...link.token_table import ByteLevel, Strings, TokenTable, packed, token_bytes
from ..output.detokenizer import Detokenizer
from ..output.late_text import LateText
from .model_text import Chat, Prompt, TableText

END = 256
_NO_TOOLS = TextWarning("tools_left_out", "the model's chat template leaves out tools[0] and all others")


@cache
def _table() -> TokenTable:
    """Byte → the character that byte-level tokenizers write for it; the end-of-turn token stands for no text."""
    strings = {data[0]: chr(code) for code in range(0x21, 0x144) if len(data := token_bytes(chr(code))) == 1}
    return TokenTable(
        packed(range(END + 1)), Strings.of([*(strings[byte] for byte in range(END)), ""]), packed([END]), ByteLevel()
    )


class FakeText(TableText):
    """The ``ModelText`` of every model of the fake engine."""

    vocabulary = END + 1
    context_length = None

    def __init__(self) -> None:
        super().__init__(_table(), frozenset({END}))

    def compile_templates(self) -> asyncio.Future[None]:
        compiled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        compiled.set_result(None)
        return compiled

    async def encode(self, text: str, add_special: bool = True, escape: bool = False) -> list[int]:
        return list(text.encode())  # no text becomes the one control token there is

    async def tokenize(
        self, text: str, add_special: bool, escape: bool, *, pieces: bool
    ) -> tuple[memoryview, list[str] | None]:
        tokens = await self.encode(text, add_special)
        strings = [_table().token(token) or "" for token in tokens] if pieces else None
        return memoryview(packed(tokens)).cast("I"), strings

    async def decode(self, tokens: Sequence[int], skip_special: bool = False) -> str:
        if (wrong := next((token for token in tokens if token < 0), None)) is not None:
            raise InvalidParams.field("tokens", f"{wrong} is not a token id")
        return bytes(token for token in tokens if token < END).decode(errors="replace")

    async def chat_tokens(self, chat: Chat) -> Prompt:
        return await self.render(chat)

    async def render(self, chat: Chat) -> Prompt:
        text = _chatml(chat)
        return Prompt(await self.encode(text), text, [_NO_TOOLS] if chat.tools else [])

    async def explain(
        self, source: str, chat: Chat, tokens: Sequence[int], nearest: Nearest | None, uncacheable: str
    ) -> CacheExplanation:
        """The fake engine caches nothing."""
        summary = "Nothing of this model can be cached."
        return CacheExplanation(prompt_tokens=len(tokens), known_tokens=0, because="uncacheable", summary=summary)

    def detokenizer(self, skip_special: bool = True, behind: Sequence[int] = ()) -> Detokenizer | LateText:
        made = self.detokenizers.new(skip_special, behind)
        assert made is not None
        return made


def _chatml(chat: Chat) -> str:
    turns = "".join(f"<|{message['role']}|>{_said(message.get('content'))}\n" for message in chat.messages)
    return turns + ("<|assistant|>" if chat.add_generation_prompt else "")


def _said(content: Any) -> str:
    """The text of a message, the parts of a list joined."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""

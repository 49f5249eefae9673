"""Fake text is the text side of the fake engine's models: a token is a byte of UTF-8, 256 ends a turn.

Chats are ChatML, with calls in the format ``hermes``. No text process is needed, because there are no model files.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from mlx_sidecar_protocol.errors import ContextTooLong, InvalidParams
from mlx_sidecar_protocol.generate_result import CacheExplanation

from ...link.messages import Nearest
from ...link.text_messages import EncodedTexts
from ...link.token_table import ByteLevel, Strings, TokenTable, packed, token_bytes
from ..output.detokenizer import Detokenizer
from ..output.formats.table import formats_of
from ..output.late_text import LateText
from .model_text import Chat, Prompt, Rendered, TableText

END = 256


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
    formats = formats_of({"<tool_call>", "</think>"}.__contains__)

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

    async def encode_texts(
        self, texts: Sequence[str], *, before: str | None = None, limit: int = 0, ends: bool = False
    ) -> EncodedTexts:
        first = list((before or "").encode())
        whole = [first + list(text.encode()) for text in texts]
        if limit and len(first) >= limit:
            raise ContextTooLong(have=len(first), limit=limit, field="query")
        return EncodedTexts(
            0,
            tokens=[packed(tokens[: limit or None]) for tokens in whole],
            seconds=[len(first)] * len(whole),
            cut=[number for number, tokens in enumerate(whole) if 0 < limit < len(tokens)],
        )

    async def decode(self, tokens: Sequence[int], skip_special: bool = False) -> str:
        if (wrong := next((token for token in tokens if token < 0), None)) is not None:
            raise InvalidParams.field("tokens", f"{wrong} is not a token id")
        return bytes(token for token in tokens if token < END).decode(errors="replace")

    async def chat_tokens(self, chat: Chat) -> Prompt:
        return Prompt(await self.encode(_chatml(chat)))

    async def render(self, chat: Chat) -> Rendered:
        text = _chatml(chat)
        return Rendered(memoryview(packed(await self.encode(text))).cast("I"), text)

    async def turn(self, chat: Chat, answered: int, answer: Sequence[int]) -> tuple[list[int] | None, Prompt]:
        end = _chatml(chat._replace(messages=chat.messages[answered + 1 :], tools=None))
        return await self.encode("\n" + end), await self.chat_tokens(chat)

    async def explain(
        self, source: str, chat: Chat, tokens: Sequence[int], nearest: Nearest | None, uncacheable: str
    ) -> CacheExplanation:
        """The fake engine caches nothing."""
        summary = "Nothing of this model can be cached."
        return CacheExplanation(prompt_tokens=len(tokens), known_tokens=0, because="uncacheable", summary=summary)

    def detokenizer(
        self, skip_special: bool = True, behind: Sequence[int] = (), shown: frozenset[str] = frozenset()
    ) -> Detokenizer | LateText:
        made = self.detokenizers.new(skip_special, behind, shown)
        assert made is not None
        return made


def _chatml(chat: Chat) -> str:
    tools = f"<|tools|>{json.dumps(chat.tools, ensure_ascii=False)}\n" if chat.tools else ""
    turns = "".join(f"<|{message['role']}|>{_said(message)}\n" for message in chat.messages)
    return tools + turns + ("<|assistant|>" if chat.add_generation_prompt else "")


def _said(message: Mapping[str, Any]) -> str:
    """A message as the model would have written it: its reasoning, its text, the parts of a list joined, its calls."""
    content, reasoning = message.get("content"), message.get("reasoning_content")
    text = "".join(part["text"] for part in content) if isinstance(content, list) else content or ""
    calls = [f"<tool_call>\n{_call(call)}\n</tool_call>" for call in message.get("tool_calls") or ()]
    return (f"<think>\n{reasoning}\n</think>\n\n" if reasoning else "") + "\n".join([*([text] if text else []), *calls])


def _call(given: Mapping[str, Any]) -> str:
    function = given.get("function")
    call = function if isinstance(function, dict) else given
    arguments = call.get("arguments", {})
    arguments = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'{{"name": {json.dumps(call.get("name"))}, "arguments": {arguments}}}'

"""From what a host gave to tokens. All that may take long runs off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import GenerateParams, Message

from ..text.budget import TooLong
from ..text.tokenizer import TextModel
from .large import SLICE
from .offload import off_loop

# Chats whose templates take long wait for each other, and keep nobody from tokenizing.
_LONG_CHATS = ThreadPoolExecutor(2, thread_name_prefix="chat")


async def prompt_tokens(text: TextModel, params: GenerateParams, vocabulary: int) -> list[int]:
    """The prompt as tokens, whichever of the three ways it was given.

    Raises InvalidParams if it has none, or for an id at or beyond ``vocabulary`` wherever ids are given.
    """
    source, tokens = await _tokens(text, params)
    if not tokens:
        raise InvalidParams.field(source, "it has no tokens: there is nothing to continue", "empty_prompt")
    # A tokenizer may know more tokens than its model, so a prompt of text is looked at like one of tokens.
    await off_loop(_check_vocabulary, source, tokens, vocabulary)
    _check_vocabulary("stop_tokens", params.stop_tokens or (), vocabulary)
    _check_vocabulary("logit_bias", params.token_bias, vocabulary)
    return tokens


async def _tokens(text: TextModel, params: GenerateParams) -> tuple[str, list[int]]:
    """The prompt, and the name of the parameter that it came under."""
    if params.tokens is not None:
        return "tokens", params.tokens
    if params.messages is not None:
        rendered = await chat_text(text, params.messages, params.tools, True, params.template_args)
        return "messages", await off_loop(text.encode, rendered, False)
    assert params.prompt is not None
    return "prompt", await off_loop(text.encode, params.prompt, True)


async def chat_text(
    text: TextModel,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    add_generation_prompt: bool,
    template_args: Mapping[str, Any] | None,
) -> str:
    """A chat under the model's template.

    What a template does with a small chat may be much: it gets a little time here, else it starts again elsewhere.
    """
    try:
        return await off_loop(_render, text, messages, tools, add_generation_prompt, template_args, True)
    except TooLong:
        again = (text, messages, tools, add_generation_prompt, template_args, False)
        return await asyncio.get_running_loop().run_in_executor(_LONG_CHATS, _render, *again)


def _render(
    text: TextModel,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    add_generation_prompt: bool,
    template_args: Mapping[str, Any] | None,
    brief: bool,
) -> str:
    plain = [message.for_template() for message in messages]
    return text.render(plain, tools, add_generation_prompt, template_args or {}, brief=brief)


def _check_vocabulary(name: str, tokens: Collection[int], size: int) -> None:
    """An id beyond the vocabulary would read foreign memory in the embedding, or do nothing: both are wrong."""
    ids = iter(tokens)
    # Slice by slice: over a million ids at once the interpreter would be held for long.
    worst = max((max(part) for part in iter(lambda: list(islice(ids, SLICE)), [])), default=0)
    if worst >= size:
        raise InvalidParams.field(name, f"token {worst} is outside the vocabulary of {size}", "unknown_token")

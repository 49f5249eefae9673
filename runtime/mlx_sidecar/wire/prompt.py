"""From what a host gave to tokens. All that may take long runs off the event loop."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import CacheExplanation, Message, Prompted

from ..streams.stream import Ending, Stream
from ..text.budget import TooLong
from ..text.escape import Chat
from ..text.tokenizer import TextModel
from .large import SLICE
from .offload import off_loop

# Chats whose templates take long wait for each other, and keep nobody from tokenizing.
_LONG_CHATS = ThreadPoolExecutor(2, thread_name_prefix="chat")


async def prompt_tokens(
    text: TextModel, params: Prompted, vocabulary: int, *, add_generation_prompt: bool = True
) -> list[int]:
    """The prompt as tokens, whichever of the three ways it was given.

    Raises InvalidParams if it has none, or for an id at or beyond ``vocabulary`` wherever ids are given.
    """
    tokens = await _tokens(text, params, add_generation_prompt)
    if not tokens:
        raise InvalidParams.field(params.source, "it has no tokens: there is nothing to continue", "empty_prompt")
    # A tokenizer may know more tokens than its model, so a prompt of text is looked at like one of tokens.
    await off_loop(check_vocabulary, params.source, tokens, vocabulary)
    return tokens


async def _tokens(text: TextModel, params: Prompted, add_generation_prompt: bool) -> list[int]:
    if params.tokens is not None:
        return params.tokens
    if params.messages is not None:
        how = (params.messages, params.tools, add_generation_prompt, params.template_args)
        return (await chat(text, *how, escape=params.escapes)).tokens
    assert params.prompt is not None
    return await off_loop(text.encode_prompt, params.prompt, True, params.escapes)


async def chat(
    text: TextModel,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    add_generation_prompt: bool,
    template_args: Mapping[str, Any] | None,
    *,
    escape: bool,
) -> Chat:
    """A chat under the model's template as text and tokens. ``escape``: nothing the host gave is a control token."""
    how = (messages, tools, add_generation_prompt, template_args)
    if escape:  # it renders with the whole budget: not here
        return await asyncio.get_running_loop().run_in_executor(_LONG_CHATS, _escaped, text, *how)
    rendered = await chat_text(text, *how)
    return Chat(rendered, await off_loop(text.encode, rendered, False))


def _escaped(
    text: TextModel,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    add_generation_prompt: bool,
    template_args: Mapping[str, Any] | None,
) -> Chat:
    plain = [message.for_template() for message in messages]
    return text.escaped_chat(plain, tools, add_generation_prompt, template_args or {})


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


def check_vocabulary(name: str, tokens: Collection[int], size: int) -> None:
    """An id beyond the vocabulary would read foreign memory in the embedding, or do nothing: both are wrong."""
    ids = iter(tokens)
    # Slice by slice: over a million ids at once the interpreter would be held for long.
    worst = max((max(part) for part in iter(lambda: list(islice(ids, SLICE)), [])), default=0)
    if worst >= size:
        raise InvalidParams.field(name, f"token {worst} is outside the vocabulary of {size}", "unknown_token")


async def explained(
    params: Prompted, text: TextModel | None, stream: Stream | None, ending: Ending
) -> CacheExplanation | None:
    """Where the prompt of ``stream`` left the nearest known one; None if it did not come as far as the engine."""
    if text is None or stream is None or not (ending.nearest or ending.uncacheable):
        return None
    # It renders with the whole budget, so however small the chat is: not here.
    what = (text, params, stream.entry.prompt, ending)
    return await asyncio.get_running_loop().run_in_executor(_LONG_CHATS, _explained, *what)


def _explained(text: TextModel, params: Prompted, prompt: array[int], ending: Ending) -> CacheExplanation:
    from ..text.explain import Given, explain

    messages = [message.for_template() for message in params.messages or ()]
    given = Given(params.source, messages, params.tools, params.template_args)
    return explain(text, given, prompt.tolist(), ending.nearest, ending.uncacheable)

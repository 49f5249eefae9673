"""This module makes a host's prompt into tokens; long work runs off the event loop."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Self

from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import FinishReason, GenerateParams, Prompted
from mlx_sidecar_protocol.generate_result import CacheExplanation, ResultWarning

from ...link.control_messages import ModelCard
from ...link.text_messages import TextWarning
from ..streams.task import Ending
from ..streams.text_stream import TextStream
from .model_text import Chat, ModelText, Prompt
from .offload import SLICE, off_loop
from .overflow import fitted, prompt_limit


class AskedPrompt:
    """The prompt of a ``generate`` request; ``params`` are complete. A session's is a subclass.

    ``dropped`` messages were left out of it, once it was made. ``rendered_differs`` and ``turn`` are a session's.
    """

    def __init__(self, params: GenerateParams) -> None:
        self.params = params
        self.dropped = 0
        self.rendered_differs: bool | None = None
        self.turn: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was taken that has to be given back."""

    async def prompt(self, text: ModelText, card: ModelCard) -> Prompt:
        """Its tokens. Raises as ``prompt_tokens``, and ContextTooLong if leaving out turns does not help."""
        params = self.params
        prompt = await prompt_tokens(text, params, card.vocabulary)
        limit = prompt_limit(card.context_length, params.max_tokens)
        if params.context_overflow == "drop_oldest" and len(prompt.tokens) > limit:
            chat = chat_of(params)
            prompt, self.dropped = await fitted(
                chat.messages, limit, lambda left: text.chat_tokens(chat._replace(messages=left))
            )
            await checked(prompt, params.source, card.vocabulary)
        return prompt

    def answered(self, stream: TextStream, reason: FinishReason) -> None:
        """It was answered by ``stream``, for the ``reason`` that its result tells."""

    @property
    def explained_as(self) -> tuple[str, Chat]:
        """Its source and chat, by which a cache miss is explained."""
        return self.params.source, chat_of(self.params)


async def prompt_tokens(
    text: ModelText, params: Prompted, vocabulary: int, *, add_generation_prompt: bool = True
) -> Prompt:
    """The prompt as tokens, given in any of the three ways.

    Raises InvalidParams if it has none, or for an id at or beyond ``vocabulary`` wherever ids are given.
    """
    prompt = await _prompt(text, params, add_generation_prompt)
    await checked(prompt, params.source, vocabulary)
    return prompt


async def checked(prompt: Prompt, source: str, vocabulary: int) -> None:
    """Raise InvalidParams naming ``source`` for a prompt without tokens, or with one beyond ``vocabulary``."""
    if not prompt.tokens:
        raise InvalidParams.field(source, "it has no tokens: there is nothing to continue", "empty_prompt")
    # A tokenizer may know more tokens than its model, so a prompt of text is looked at like one of tokens.
    await off_loop(check_vocabulary, source, prompt.tokens, vocabulary)


async def _prompt(text: ModelText, params: Prompted, add_generation_prompt: bool) -> Prompt:
    if params.tokens is not None:
        return Prompt(params.tokens)
    if params.messages is not None:
        return await text.chat_tokens(chat_of(params, add_generation_prompt=add_generation_prompt))
    assert params.prompt is not None
    return Prompt(await text.encode(params.prompt, True, params.escapes))


def chat_of(params: Prompted, *, add_generation_prompt: bool = True) -> Chat:
    """The chat that ``params`` holds; empty if they hold none."""
    messages = [message.for_template() for message in params.messages or ()]
    return Chat(messages, params.tools, add_generation_prompt, params.template_args, params.escapes)


def result_warnings(warnings: Sequence[TextWarning]) -> list[ResultWarning] | None:
    """Warnings as results carry them; None if there is none."""
    return [ResultWarning(kind=each.kind, message=each.message) for each in warnings] or None


def check_vocabulary(name: str, tokens: Collection[int], size: int) -> None:
    """Refuse ids beyond the vocabulary, because they would read foreign memory in the embedding, or do nothing."""
    ids = iter(tokens)
    # Slice by slice, because a million ids at once would hold the interpreter for long.
    worst = max((max(part) for part in iter(lambda: list(islice(ids, SLICE)), [])), default=0)
    if worst >= size:
        raise InvalidParams.field(name, f"token {worst} is outside the vocabulary of {size}", "unknown_token")


async def explained(
    asked: AskedPrompt, text: ModelText | None, stream: TextStream | None, ending: Ending
) -> CacheExplanation | None:
    """Where the prompt of ``stream`` left the nearest known one; None if it did not get to the engine."""
    if text is None or stream is None or not (ending.nearest or ending.uncacheable):
        return None
    source, chat = asked.explained_as
    return await text.explain(source, chat, stream.task.entry.prompt, ending.nearest, ending.uncacheable)

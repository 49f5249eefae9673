"""This module makes a host's prompt into tokens; long work runs off the event loop."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice

from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import Prompted
from mlx_sidecar_protocol.generate_result import CacheExplanation, ResultWarning

from ...link.text_messages import TextWarning
from ..streams.task import Ending
from ..streams.text_stream import TextStream
from .model_text import Chat, ModelText, Prompt
from .offload import SLICE, off_loop


async def prompt_tokens(
    text: ModelText, params: Prompted, vocabulary: int, *, add_generation_prompt: bool = True
) -> Prompt:
    """The prompt as tokens, given in any of the three ways.

    Raises InvalidParams if it has none, or for an id at or beyond ``vocabulary`` wherever ids are given.
    """
    prompt = await _prompt(text, params, add_generation_prompt)
    if not prompt.tokens:
        raise InvalidParams.field(params.source, "it has no tokens: there is nothing to continue", "empty_prompt")
    # A tokenizer may know more tokens than its model, so a prompt of text is looked at like one of tokens.
    await off_loop(check_vocabulary, params.source, prompt.tokens, vocabulary)
    return prompt


async def _prompt(text: ModelText, params: Prompted, add_generation_prompt: bool) -> Prompt:
    if params.tokens is not None:
        return Prompt(params.tokens)
    if params.messages is not None:
        return await text.chat_tokens(_chat(params, add_generation_prompt=add_generation_prompt))
    assert params.prompt is not None
    return Prompt(await text.encode(params.prompt, True, params.escapes))


def _chat(params: Prompted, *, add_generation_prompt: bool = True) -> Chat:
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
    params: Prompted, text: ModelText | None, stream: TextStream | None, ending: Ending
) -> CacheExplanation | None:
    """Where the prompt of ``stream`` left the nearest known one; None if it did not get to the engine."""
    if text is None or stream is None or not (ending.nearest or ending.uncacheable):
        return None
    return await text.explain(
        params.source, _chat(params), stream.task.entry.prompt, ending.nearest, ending.uncacheable
    )

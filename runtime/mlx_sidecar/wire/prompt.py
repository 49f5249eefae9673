"""From what a host gave to tokens. All that may take long runs off the event loop."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import CacheExplanation, Message, Prompted, ResultWarning

from ..streams.stream import Ending, Stream
from ..text.left_out import RenderWarning
from ..text.templates import Rendered
from ..text.tokenizer import TextModel
from .large import SLICE
from .offload import off_loop


class Prompt(NamedTuple):
    """A prompt as tokens, and warnings about parts of it that the chat template left out."""

    tokens: list[int]
    warnings: Sequence[RenderWarning] = ()


async def prompt_tokens(
    text: TextModel, params: Prompted, vocabulary: int, *, add_generation_prompt: bool = True
) -> Prompt:
    """The prompt as tokens, whichever of the three ways it was given.

    Raises InvalidParams if it has none, or for an id at or beyond ``vocabulary`` wherever ids are given.
    """
    prompt = await _prompt(text, params, add_generation_prompt)
    if not prompt.tokens:
        raise InvalidParams.field(params.source, "it has no tokens: there is nothing to continue", "empty_prompt")
    # A tokenizer may know more tokens than its model, so a prompt of text is looked at like one of tokens.
    await off_loop(check_vocabulary, params.source, prompt.tokens, vocabulary)
    return prompt


async def _prompt(text: TextModel, params: Prompted, add_generation_prompt: bool) -> Prompt:
    if params.tokens is not None:
        return Prompt(params.tokens)
    if params.messages is not None:
        how = (params.messages, params.tools, add_generation_prompt, params.template_args)
        rendered = await chat_text(text, *how)
        return Prompt(await off_loop(text.encode, rendered.text, False), rendered.warnings)
    assert params.prompt is not None
    return Prompt(await off_loop(text.encode, params.prompt, True))


async def chat_text(
    text: TextModel,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    add_generation_prompt: bool,
    template_args: Mapping[str, Any] | None,
) -> Rendered:
    """A chat under the model's template."""
    plain = [message.for_template() for message in messages]
    return await off_loop(text.render, plain, tools, add_generation_prompt, template_args or {})


def result_warnings(warnings: Sequence[RenderWarning]) -> list[ResultWarning] | None:
    """As results carry them: absent where there is nothing to tell."""
    return [ResultWarning(kind=each.kind, message=each.message) for each in warnings] or None


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
    return await off_loop(_explained, text, params, stream.entry.prompt, ending)


def _explained(text: TextModel, params: Prompted, prompt: array[int], ending: Ending) -> CacheExplanation:
    from ..text.explain import Given, explain

    messages = [message.for_template() for message in params.messages or ()]
    given = Given(params.source, messages, params.tools, params.template_args)
    return explain(text, given, prompt.tolist(), ending.nearest, ending.uncacheable)

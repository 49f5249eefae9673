"""Leaves out the oldest turns of a chat that is too long for its model's context."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mlx_sidecar_protocol.errors import ContextTooLong

from ..sessions.dropping import Messages, system_messages, without
from .model_text import Prompt


def prompt_limit(context_length: int, max_tokens: int | None) -> int:
    """The most tokens of a prompt that leaves room for the answer: ``max_tokens``, or a quarter of the context.

    More than the context can hold is taken for none.
    """
    room = max_tokens if max_tokens is not None and max_tokens < context_length else context_length // 4
    return context_length - room


async def fitted(messages: Messages, limit: int, render: Callable[[Messages], Awaitable[Prompt]]) -> tuple[Prompt, int]:
    """The prompt of ``messages`` with as few of the oldest turns left out as fit into ``limit``, and how many messages.

    A turn is a user's message with all that follows it up to the next one. The last turn is never left out: raises
    ContextTooLong if it does not fit. Renders as often as the logarithm of the number of turns.
    """
    choices = _choices(messages)
    low, high = 0, len(choices) - 1
    prompt = await render(without(messages, choices[high]))
    if len(prompt.tokens) > limit:
        raise ContextTooLong(have=len(prompt.tokens), limit=limit)
    while low < high:
        middle = (low + high) // 2
        tried = await render(without(messages, choices[middle]))
        if len(tried.tokens) <= limit:
            prompt, high = tried, middle
        else:
            low = middle + 1
    return prompt, choices[high]


def _choices(messages: Messages) -> list[int]:
    """How many messages behind the system messages may be left out: none, one turn, two turns …"""
    system = system_messages(messages)
    begins = [at for at, message in enumerate(messages) if at > system and message["role"] == "user"]
    return [0, *(at - system for at in begins)]

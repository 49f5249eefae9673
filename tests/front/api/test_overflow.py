"""A chat that is too long loses its oldest turns, whole ones, and as few as fit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.api.model_text import Prompt
from mlx_sidecar.front.api.overflow import fitted, prompt_limit
from mlx_sidecar_protocol.errors import ContextTooLong

# Each message is as many tokens as its content says.
_CONTENTS = st.integers(1, 20).map(str)


def _messages(role: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"role": st.just(role), "content": _CONTENTS})


def _several(*roles: str, least: int = 0) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.sampled_from(roles).flatmap(_messages), min_size=least, max_size=3)


_TURNS = st.tuples(_messages("user"), _several("assistant", "tool")).map(lambda turn: [turn[0], *turn[1]])
CHATS = st.tuples(_several("system", "developer"), st.lists(_TURNS, min_size=1, max_size=6)).map(
    lambda chat: [*chat[0], *(message for turn in chat[1] for message in turn)]
)


def size(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(message["content"]) for message in messages)


async def rendered(messages: Sequence[Mapping[str, Any]]) -> Prompt:
    return Prompt([0] * size(messages))


def choices(messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The chat with no turn left out, with one, and so on; by grouping, not by places."""
    numbered, turn = [], 0
    for message in messages:
        turn += message["role"] == "user"
        numbered.append((turn, message))
    turns = [[message for _, message in group] for _, group in groupby(numbered, lambda pair: pair[0])]
    system = turns.pop(0) if messages[0]["role"] != "user" else []
    return [[*system, *(message for left in turns[at:] for message in left)] for at in range(len(turns))]


@given(CHATS, st.integers(1, 200))
def test_the_longest_chat_that_fits_is_kept_and_the_last_turn_always(
    messages: list[dict[str, Any]], limit: int
) -> None:
    fitting = [left for left in choices(messages) if size(left) <= limit]
    if not fitting:
        with pytest.raises(ContextTooLong) as refused:
            asyncio.run(fitted(messages, limit, rendered))
        assert refused.value.details == {"have": size(choices(messages)[-1]), "limit": limit}
        return
    prompt, dropped = asyncio.run(fitted(messages, limit, rendered))
    assert (len(prompt.tokens), dropped) == (size(fitting[0]), len(messages) - len(fitting[0]))


@pytest.mark.parametrize(("max_tokens", "limit"), [(None, 75), (10, 90), (99, 1), (100, 75), (5000, 75)])
def test_room_is_kept_for_the_answer_that_is_asked_for_or_a_quarter_of_the_context(
    max_tokens: int | None, limit: int
) -> None:
    assert prompt_limit(100, max_tokens) == limit

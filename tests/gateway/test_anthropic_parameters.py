"""Every member that Anthropic's SDK can send is in one of our lists."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import message_count_tokens_params as count
from anthropic.types import message_create_params as create
from anthropic.types.beta import message_count_tokens_params as beta_count
from anthropic.types.beta import message_create_params as beta_create

from mlx_sidecar_gateway.surfaces.anthropic import parameters
from mlx_sidecar_gateway.surfaces.parameters import Parameters
from tests.gateway.sdk_types import members, type_of, typed_dicts

MESSAGES = [
    create.MessageCreateParamsNonStreaming,
    create.MessageCreateParamsStreaming,
    beta_create.MessageCreateParamsNonStreaming,
    beta_create.MessageCreateParamsStreaming,
]
COUNTS = [count.MessageCountTokensParams, beta_count.MessageCountTokensParams]
REQUESTS = [*((each, parameters.MESSAGES) for each in MESSAGES), *((each, parameters.COUNT_TOKENS) for each in COUNTS)]

every_request = pytest.mark.parametrize(
    ("request_type", "listed"), REQUESTS, ids=[f"{each.__module__}.{each.__name__}" for each, _ in REQUESTS]
)


def unlisted(typed_dict: type[Any], listed: Parameters, prefix: str = "") -> set[str]:
    return {prefix + name for name in members(typed_dict)} - listed.listed


def by_type(hint: Any) -> dict[str | None, type[Any]]:
    return {type_of(each): each for each in typed_dicts(hint)}


@every_request
def test_every_parameter_is_listed(request_type: type[Any], listed: Parameters) -> None:
    assert not unlisted(request_type, listed)
    (output,) = typed_dicts(members(request_type)["output_config"])
    assert not unlisted(output, listed, "output_config.")


@every_request
def test_every_kind_of_thinking_and_of_tool_choice_is_listed(request_type: type[Any], listed: Parameters) -> None:
    thinking, choices = by_type(members(request_type)["thinking"]), by_type(members(request_type)["tool_choice"])
    assert thinking.keys() == parameters.THINKING.keys() | parameters.REFUSED_THINKING.keys()
    assert not any(unlisted(thinking[kind], table) for kind, table in parameters.THINKING.items() if kind)
    assert choices.keys() == parameters.TOOL_CHOICE.keys()
    assert not any(unlisted(choices[kind], table) for kind, table in parameters.TOOL_CHOICE.items())


@every_request
def test_every_member_of_a_message_and_of_its_blocks_is_listed(request_type: type[Any], listed: Parameters) -> None:
    for message in typed_dicts(members(request_type)["messages"]):
        (role,) = members(message)["role"].__args__
        assert not unlisted(message, parameters.MESSAGE[role])
        for kind, block in by_type(members(message)["content"]).items():
            assert kind in parameters.BLOCKS or kind in parameters.REFUSED_BLOCKS
            if kind in parameters.BLOCKS:
                assert not unlisted(block, parameters.BLOCKS[kind])


@every_request
def test_every_member_of_a_tool_that_the_client_runs_is_listed(request_type: type[Any], listed: Parameters) -> None:
    assert not unlisted(by_type(members(request_type)["tools"])["custom"], parameters.TOOL)

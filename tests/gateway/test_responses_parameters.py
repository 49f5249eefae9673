"""Every member that OpenAI's SDK can send with a request for a response is in one of our lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from openai.types.responses import (
    input_item_list_params,
    input_token_count_params,
    response_create_params,
    response_retrieve_params,
)
from openai.types.responses.response_text_config_param import ResponseTextConfigParam
from typing_extensions import is_typeddict

from mlx_sidecar_gateway.surfaces.openai.responses import parameters, routes
from mlx_sidecar_gateway.surfaces.parameters import Parameters
from tests.gateway.sdk_types import members, typed_dicts

CREATE = members(response_create_params.ResponseCreateParamsStreaming)
KINDS_OF_ITEMS = parameters.ITEMS.keys() | parameters.REFUSED_ITEMS.keys()


def unlisted(typed_dict: type[Any], listed: Parameters, prefix: str = "") -> set[str]:
    return {prefix + name for name in members(typed_dict)} - listed.listed


def literals(hint: Any) -> Iterator[str]:
    """The strings that a hint allows."""
    for inner in get_args(hint):
        if isinstance(inner, str):
            yield inner
        else:
            yield from literals(inner)


def by_type(hint: Any) -> list[tuple[str, type[Any]]]:
    """The TypedDicts directly in a hint, each with each value of its member ``type``."""
    found = [each for each in typed_dicts(hint) if is_typeddict(each)]
    return [(type_, each) for each in found for type_ in literals(members(each).get("type"))]


def inner(name: str) -> type[Any]:
    (only,) = typed_dicts(CREATE[name])
    return only


def test_every_parameter_is_listed() -> None:
    assert len(CREATE) > 30
    assert not unlisted(response_create_params.ResponseCreateParamsStreaming, parameters.RESPONSES)
    assert not unlisted(response_create_params.ResponseCreateParamsNonStreaming, parameters.RESPONSES)
    assert not unlisted(inner("reasoning"), parameters.RESPONSES, "reasoning.")
    assert not unlisted(inner("stream_options"), parameters.RESPONSES, "stream_options.")
    assert not unlisted(ResponseTextConfigParam, parameters.RESPONSES, "text.")


def test_every_parameter_of_counting_is_listed() -> None:
    counted = members(input_token_count_params.InputTokenCountParams)
    assert not unlisted(input_token_count_params.InputTokenCountParams, parameters.INPUT_TOKENS)
    for name in ("reasoning", "text"):
        (typed_dict,) = typed_dicts(counted[name])
        assert not unlisted(typed_dict, parameters.INPUT_TOKENS, f"{name}.")


def test_every_member_of_a_format_is_listed() -> None:
    for _, form in by_type(members(ResponseTextConfigParam)["format"]):
        assert not unlisted(form, parameters.FORM)


def test_every_value_of_include_is_known() -> None:
    assert set(literals(CREATE["include"])) == parameters.INCLUDED | parameters.NEVER_THERE


def test_every_kind_of_item_is_listed_with_its_members() -> None:
    items = by_type(CREATE["input"])
    assert {type_ for type_, _ in items} == KINDS_OF_ITEMS
    for type_, item in items:
        if type_ in parameters.ITEMS:
            assert not unlisted(item, parameters.ITEMS[type_])


@pytest.mark.parametrize(
    ("type_", "member"), [("message", "content"), ("function_call_output", "output"), ("reasoning", "content")]
)
def test_every_kind_of_part_is_listed_with_its_members(type_: str, member: str) -> None:
    for item in [item for each, item in by_type(CREATE["input"]) if each == type_]:
        for kind, part in by_type(members(item)[member]):
            assert kind in parameters.PARTS or kind in parameters.REFUSED_PARTS
            if kind in parameters.PARTS:
                assert not unlisted(part, parameters.PARTS[kind])


def test_every_kind_of_tool_is_listed() -> None:
    tools = dict(by_type(CREATE["tools"]))
    assert tools.keys() == {"function"} | parameters.LEFT_ASIDE | parameters.REFUSED_TOOLS.keys()
    assert not unlisted(tools["function"], parameters.FUNCTION)


def test_tool_choices_that_are_taken_have_no_unlisted_members() -> None:
    choices = dict(by_type(CREATE["tool_choice"]))
    assert choices.keys() >= parameters.TOOL_CHOICES.keys()
    for type_, listed in parameters.TOOL_CHOICES.items():
        assert not unlisted(choices[type_], listed)


def test_every_parameter_of_what_is_kept_is_listed() -> None:
    assert not unlisted(response_retrieve_params.ResponseRetrieveParamsStreaming, routes.RETRIEVE)
    assert not unlisted(input_item_list_params.InputItemListParams, routes.INPUT_ITEMS)


@pytest.mark.parametrize("listed", [parameters.RESPONSES, parameters.INPUT_TOKENS, routes.RETRIEVE])
def test_no_parameter_is_in_two_lists(listed: Parameters) -> None:
    lists = (listed.honoured, listed.harmless.keys(), listed.refused.keys())
    assert sum(map(len, lists)) == len(listed.listed)
    assert not parameters.ITEMS.keys() & parameters.REFUSED_ITEMS.keys()
    assert not parameters.LEFT_ASIDE & parameters.REFUSED_TOOLS.keys()

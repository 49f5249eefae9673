"""Each parameter of a surface is honoured, declared harmless, or refused by name."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import completion_create_params
from openai.types.chat import chat_completion_stream_options_param
from openai.types.chat import completion_create_params as chat_params

from mlx_sidecar_gateway.surfaces.faults import Refused
from mlx_sidecar_gateway.surfaces.openai import chat, completions
from mlx_sidecar_gateway.surfaces.parameters import Harmless, Parameters

LISTS = Parameters(
    honoured=frozenset({"model", "options", "options.usage"}),
    harmless={"user": Harmless("it names somebody"), "store": Harmless("nothing is stored", only=(False,))},
    refused={"audio": "answers are text"},
)


def refused(body: dict[str, Any], *, strict: bool = False) -> str | None:
    """The parameter that is refused."""
    try:
        LISTS.ignored(body, strict=strict)
    except Refused as error:
        return error.fault.param
    return None


def members(*types: type) -> set[str]:
    return {name for type_ in types for name in get_type_hints(type_)}


@pytest.mark.parametrize(
    ("parameters", "types"),
    [
        (
            chat.PARAMETERS,
            (chat_params.CompletionCreateParamsNonStreaming, chat_params.CompletionCreateParamsStreaming),
        ),
        (
            completions.PARAMETERS,
            (
                completion_create_params.CompletionCreateParamsNonStreaming,
                completion_create_params.CompletionCreateParamsStreaming,
            ),
        ),
    ],
)
def test_no_parameter_of_the_installed_package_is_in_no_list(parameters: Parameters, types: tuple[type, ...]) -> None:
    inner = {
        f"stream_options.{name}"
        for name in members(chat_completion_stream_options_param.ChatCompletionStreamOptionsParam)
    }
    assert len(members(*types)) > 10
    assert (members(*types) | inner) - parameters.listed == set()


@pytest.mark.parametrize("parameters", [chat.PARAMETERS, completions.PARAMETERS])
def test_no_parameter_is_in_two_lists(parameters: Parameters) -> None:
    lists = (parameters.honoured, parameters.harmless.keys(), parameters.refused.keys())
    assert sum(map(len, lists)) == len(parameters.listed)


def test_harmless_ones_are_reported_and_unknown_ones_refused() -> None:
    assert LISTS.ignored({"model": "m", "user": "me", "store": False}, strict=False) == ("user", "store")
    assert refused({"model": "m", "temprature": 1}) == "temprature"
    assert refused({"audio": {}}) == "audio"
    assert refused({"options": {"usage": True, "more": 1}}) == "options.more"


def test_a_harmless_parameter_may_be_harmless_with_some_values_alone() -> None:
    assert refused({"store": True}) == "store"
    assert refused({"store": 0}) == "store"


def test_strict_refuses_what_would_change_nothing() -> None:
    assert refused({"user": "me"}, strict=True) == "user"


@given(st.dictionaries(st.sampled_from([*LISTS.listed, "other"]), st.none()), st.booleans())
def test_null_counts_as_absent(body: dict[str, None], strict: bool) -> None:
    assert LISTS.ignored(body, strict=strict) == ()


@given(st.dictionaries(st.sampled_from([*LISTS.listed, "other", ""]), st.booleans() | st.text(max_size=3)))
def test_only_listed_parameters_pass(body: dict[str, Any]) -> None:
    wrong = refused(body)
    if wrong is None:
        assert {name for name, value in body.items() if value is not None} <= LISTS.listed
    else:
        assert wrong in body

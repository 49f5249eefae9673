"""The demands of a request on calls, by its parameters and by what is known of the model's format."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_sidecar.front.api.tool_grammar import calls_form, demand_of
from mlx_sidecar.front.output.formats.grammar import marker_of
from mlx_sidecar.front.output.formats.table import tool_format
from mlx_sidecar.link.forms import ChoiceForm, Token
from mlx_sidecar_protocol.errors import UnsupportedParameter
from mlx_sidecar_protocol.generate import GenerateParams

YES: dict[str, Any] = {"response_format": {"type": "choice", "choices": ["yes"]}}
STRICT: dict[str, Any] = {"tools": [{"name": "f", "strict": True}]}
ONE: dict[str, Any] = {"parallel_tool_calls": False}


def params(**asked: Any) -> GenerateParams:
    chat = {"model": "m", "messages": [{"role": "user", "content": "?"}], "tools": [{"name": "f"}]}
    return GenerateParams.model_validate({**chat, **asked})


@pytest.mark.parametrize(
    ("asked", "demand"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, None),
        ({"tools": []}, None),
        ({"tools": None, **YES}, None),
        ({"tool_choice": "required"}, "required"),
        ({"tool_choice": {"name": "f"}}, "required"),
        ({"tool_choice": "none"}, "forbidden"),
        ({"tool_choice": "none", **YES}, None),
        ({"tool_choice": "none", **STRICT}, "forbidden"),
        (STRICT, "offered"),
        (ONE, "offered"),
        (YES, "offered"),
    ],
)
def test_calls_are_held_to_a_grammar_where_the_request_says_something_of_them(asked: Any, demand: Any) -> None:
    assert demand_of(params(**asked)) == demand


@pytest.mark.parametrize(
    ("asked", "name"),
    [({"tool_choice": "required"}, "tool_choice"), (STRICT, "tools"), (ONE, "parallel_tool_calls")],
)
def test_a_model_of_an_unknown_format_is_refused_by_the_parameter_that_needs_one(asked: Any, name: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        calls_form(params(**asked), None, lambda _: None, None)
    assert caught.value.details["name"] == name


@pytest.mark.parametrize("asked", [{"tool_choice": "none"}, YES])
def test_a_model_of_an_unknown_format_may_be_asked_for_what_needs_none(asked: Any) -> None:
    assert calls_form(params(**asked), None, lambda _: None, None) is None


def test_calls_that_nothing_announces_and_a_form_exclude_each_other() -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        calls_form(params(**YES), tool_format("llama3_json"), lambda _: None, ChoiceForm(["yes"]))
    assert caught.value.details["name"] == "response_format"
    assert calls_form(params(tool_choice="none"), tool_format("llama3_json"), lambda _: None, None) is None


def test_the_longest_token_of_a_marker_is_taken() -> None:
    ids = {"<a>": 1, "<a>b": 2}
    assert marker_of("x<a>b<a>", ids, ids.get) == ["x", Token(2, "<a>b"), Token(1, "<a>")]
    assert marker_of("x<a>", ["<a>"], lambda _: None) == ["x<a>"]

"""Answers keep to tool_choice, strict tools and parallel_tool_calls, whatever the model would say."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.host import Frame
from tests.support.pair import Pair, pair

PLACES = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "days": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["city", "days"],
}
FORECAST: Frame = {"name": "forecast", "parameters": PLACES}
TOOLS: list[Frame] = [{"type": "function", "function": FORECAST}, {"type": "function", "function": {"name": "look"}}]
STRICT: list[Frame] = [{"type": "function", "function": {**FORECAST, "strict": True}}, TOOLS[1]]
REASONING = "<think>\nBern; three days.\n</think>\n\n"
LOOK = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
BAD = '<tool_call>\n{"name": "forecast", "arguments": {"city": 5, "days": "three"}}\n</tool_call>'
ANSWER = {"type": "json_schema", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Pair]:
    with pair() as process:
        yield process


def params(text: str, **more: Any) -> Frame:
    chat = [{"role": "user", "content": "How is the weather in Bern?"}]
    return {"model": f"fake?text={quote(text)}", "messages": chat, "tools": TOOLS, "seed": 1, "max_tokens": 600, **more}


def names(result: Frame) -> list[str]:
    """The tools that are called, each with arguments that it takes."""
    for call in result.get("tool_calls", []):
        arguments = json.loads(call["arguments"])
        assert set(arguments) == ({"city", "days"} if call["name"] == "forecast" else set())
    assert "tool_call_error" not in result
    assert "incomplete_tool_calls" not in result
    return [call["name"] for call in result.get("tool_calls", [])]


@pytest.mark.parametrize("text", [f"{REASONING}No.", f"{REASONING}I look.\n{LOOK}", BAD, LOOK])
def test_a_required_call_comes_behind_reasoning_and_nothing_else(sidecar: Pair, text: str) -> None:
    result = sidecar.call("generate", params(text, tool_choice="required"))
    assert names(result)
    assert result["finish_reason"] == "tool_calls"
    assert result["text"] == ""
    assert ("reasoning" in result) == text.startswith(REASONING)
    assert "response_format" not in result


def test_a_named_tool_is_the_one_that_is_called_once(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(f"{LOOK}\n{LOOK}", tool_choice={"name": "forecast"}))
    assert names(result) == ["forecast"]
    assert names(sidecar.call("generate", params(f"{LOOK}\n{LOOK}", tool_choice={"name": "look"}))) == ["look"]


@pytest.mark.parametrize("form", ["qwen3_coder", "gemma4", "lfm2", "mistral", "llama3_json", "harmony", "deepseek_v3"])
def test_a_required_call_has_the_format_that_is_named(sidecar: Pair, form: str) -> None:
    # What the fake engine says in the place of what it may not say would go on thinking.
    begun = "<|channel|>commentary to=functions.l" if form == "harmony" else REASONING
    result = sidecar.call("generate", params(begun + "No.", tool_choice="required", tool_format=form))
    assert names(result)
    assert result["text"] == ""


def test_several_calls_come_unless_one_is_the_most(sidecar: Pair) -> None:
    both = f"{REASONING}I look.\n{LOOK}\n{LOOK}"
    assert names(sidecar.call("generate", params(both))) == ["look", "look"]
    one = sidecar.call("generate", params(both, parallel_tool_calls=False))
    assert (one["text"], names(one)) == ("I look.", ["look"])
    assert names(sidecar.call("generate", params(both, tool_choice="required", parallel_tool_calls=False))) == [
        "forecast"
    ]


def test_a_strict_tool_is_held_to_its_schema_and_whether_it_is_called_is_the_models(sidecar: Pair) -> None:
    loose = sidecar.call("generate", params(BAD))
    assert json.loads(loose["tool_calls"][0]["arguments"]) == {"city": 5, "days": "three"}
    result = sidecar.call("generate", params(f"{REASONING}I look.\n{BAD}", tools=STRICT))
    assert (result["text"], names(result)) == ("I look.", ["forecast"])
    free = sidecar.call("generate", params(f"{REASONING}No {{call}} is needed.", tools=STRICT))
    assert (free["text"], free["finish_reason"]) == ("No {call} is needed.", "stop")


def test_no_call_begins_where_none_may(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(f"{REASONING}I look.\n{LOOK}", tool_choice="none"))
    assert names(result) == []
    assert "<tool_call>" not in result["text"]
    assert result["text"].startswith("I look.")


def test_an_answer_with_a_form_has_it_or_calls(sidecar: Pair) -> None:
    result = sidecar.call("generate", params('{"a": 1}', response_format=ANSWER))
    assert json.loads(result["text"]) == {"a": 1}
    assert result["response_format"]["complete"]
    called = sidecar.call("generate", params(LOOK, response_format=ANSWER))
    assert (called["text"], names(called)) == ("", ["look"])
    none = sidecar.call("generate", params(f"{REASONING}No.", response_format=ANSWER, tool_choice="none"))
    assert names(none) == []
    assert isinstance(json.loads(none["text"]), dict)


def test_a_required_call_outlives_its_engine(sidecar: Pair) -> None:
    text = f"{REASONING}{LOOK}\n{LOOK}\n{LOOK}"
    whole = sidecar.call("generate", params(text, tool_choice="required"))
    asked = params(text, tool_choice="required", stream="k")
    killed = sidecar.request("generate", {**asked, "model": f"{asked['model']}&delay_ms=5"})
    sidecar.notification("stream/delta", stream="k")
    sidecar.signal_engine(signal.SIGKILL)
    result = sidecar.result(killed)
    assert [result[name] for name in ("tokens", "finish_reason")] == [
        whole[name] for name in ("tokens", "finish_reason")
    ]
    assert names(result) == ["look"] * 3


# Refusals.


def errors(sidecar: Pair, **more: Any) -> Frame:
    told: Frame = sidecar.error("generate", params("No.", **more))["data"]
    return told


def test_a_required_call_and_a_form_exclude_each_other_by_both_names(sidecar: Pair) -> None:
    told = errors(sidecar, tool_choice="required", response_format=ANSWER)
    assert {tuple(each["loc"]) for each in told["errors"]} == {("tool_choice",), ("response_format",)}


@pytest.mark.parametrize("asked", [{"tool_choice": "required"}, {"tool_choice": {"name": "f"}}, {"strict": True}])
def test_a_schema_that_no_call_can_be_held_to_is_refused_by_the_path_to_its_keyword(
    sidecar: Pair, asked: Frame
) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}
    strict = asked.pop("strict", False)
    told = errors(sidecar, tools=[TOOLS[0], {"type": "function", "function": {**function, "strict": strict}}], **asked)
    path = ["tools", 1, "function", "parameters", "properties", "a", "not"]
    assert told["errors"][0]["loc"] == path


def test_a_schema_is_not_looked_at_where_nothing_is_held_to_it(sidecar: Pair) -> None:
    odd = [{"name": "look", "parameters": {"properties": {"a": {"not": {}}, "b": 5}}}]
    assert names(sidecar.call("generate", params(LOOK, tools=odd))) == ["look"]


@pytest.mark.parametrize(
    ("asked", "loc"),
    [
        ({"tools": [], "tool_choice": "required"}, ["tool_choice"]),
        ({"tools": [{"name": "f"}, {"name": "f"}], "tool_choice": "required"}, ["tools", 1]),
        ({"tools": [{"parameters": {}}], "tool_choice": "required"}, ["tools", 0]),
        ({"tools": [{"name": "two words"}], "tool_choice": "required"}, ["tools", 0]),
        ({"tools": [{"name": "f", "parameters": []}], "tool_choice": "required"}, ["tools", 0, "parameters"]),
        ({"tools": [{"name": "f", "parameters": {"type": "array"}}], "tool_choice": "required"},
         ["tools", 0, "parameters", "type"]),
        ({"tool_choice": "required", "ignore_eos": True}, ["ignore_eos"]),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_refused_by_name(sidecar: Pair, asked: Frame, loc: list[Any]) -> None:
    assert errors(sidecar, **asked)["errors"][0]["loc"] == loc

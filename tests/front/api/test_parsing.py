"""The parts that are sought in an answer: by the model's formats, the request's tools, and the end of the prompt."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlx_sidecar.front.api.fake_text import FakeText
from mlx_sidecar.front.api.parsing import Parsing, check_format, parsing_of, reasons
from mlx_sidecar.front.output.formats.table import OutputFormats, tool_format
from mlx_sidecar.front.output.formats.tool_format import ReasoningFormat
from mlx_sidecar.link.token_table import ByteLevel, Strings, TokenTable, packed
from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import GenerateParams

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
HERMES, HARMONY, GLM = tool_format("hermes"), tool_format("harmony"), tool_format("glm")
THINK = ReasoningFormat("<think>", "</think>")


def text_with(formats: OutputFormats) -> FakeText:
    class Text(FakeText):
        pass

    Text.formats = formats
    return Text()


def looked_for(
    formats: OutputFormats, prompt: str = "<|assistant|>", **params: Any
) -> tuple[Parsing | None, list[str]]:
    asked = GenerateParams.parse({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **params})
    parsing, warnings = asyncio.run(parsing_of(asked, text_with(formats), list(prompt.encode())))
    return parsing, [warning.kind for warning in warnings]


@pytest.mark.parametrize("params", [{}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": []}])
def test_nothing_is_looked_for_where_neither_reasoning_nor_calls_can_come(params: dict[str, Any]) -> None:
    assert looked_for(OutputFormats(HERMES, None), **params) == (None, [])
    assert looked_for(OutputFormats(), **params) == (None, [])


def test_raw_output_is_not_looked_into() -> None:
    assert looked_for(OutputFormats(HERMES, THINK), tools=TOOLS, output="raw") == (None, [])


def test_reasoning_is_looked_for_without_tools() -> None:
    parsing, _ = looked_for(OutputFormats(HERMES, THINK))
    assert parsing is not None
    assert parsing == Parsing(OutputFormats(None, THINK), None, thinking=False)
    assert parsing.shown == {"<think>", "</think>"}


def test_calls_are_looked_for_with_tools() -> None:
    parsing, warnings = looked_for(OutputFormats(HERMES, THINK), tools=TOOLS)
    assert parsing is not None
    assert parsing == Parsing(OutputFormats(HERMES, THINK), TOOLS, thinking=False)
    assert {"<tool_call>", "</tool_call>", "<think>", "</think>"} <= parsing.shown
    assert warnings == []


@pytest.mark.parametrize(
    ("prompt", "thinking"),
    [("<|assistant|><think>\n", True), ("<|assistant|><think>\n\n</think>\n\n", False), ("<|assistant|>", False)],
)
def test_the_end_of_the_prompt_tells_whether_reasoning_is_open(prompt: str, thinking: bool) -> None:
    parsing, _ = looked_for(OutputFormats(None, THINK), prompt)
    assert parsing is not None
    assert parsing.thinking == thinking


def test_channels_are_sorted_whatever_the_request_and_never_open_in_the_prompt() -> None:
    parsing, _ = looked_for(OutputFormats(HARMONY, THINK), "<think>")
    assert parsing is not None
    assert parsing == Parsing(OutputFormats(HARMONY, THINK), None, thinking=False)
    assert "<|channel|>" in parsing.shown


def test_a_format_that_the_request_names_takes_the_place_of_the_models() -> None:
    parsing, warnings = looked_for(OutputFormats(HERMES, None), tools=TOOLS, tool_format="glm")
    assert (parsing, warnings) == (Parsing(OutputFormats(GLM, None), TOOLS, thinking=False), [])


@pytest.mark.parametrize("reasoning", [None, THINK])
def test_calls_of_a_model_without_a_format_stay_in_the_text_and_the_answer_says_so(reasoning: Any) -> None:
    parsing, warnings = looked_for(OutputFormats(None, reasoning), tools=TOOLS)
    assert warnings == ["tool_calls_not_parsed"]
    assert parsing == (None if reasoning is None else Parsing(OutputFormats(None, THINK), None, thinking=False))


def test_the_card_says_that_a_model_with_channels_reasons() -> None:
    assert reasons(OutputFormats(HARMONY, None))
    assert reasons(OutputFormats(None, THINK))
    assert not reasons(OutputFormats(HERMES, None))


def test_an_unknown_format_is_refused_by_its_field() -> None:
    check_format(None)
    check_format("hermes")
    with pytest.raises(InvalidParams, match=r"tool_format: there is no format 'morse'; known are .*hermes"):
        check_format("morse")


def test_tokens_that_end_a_turn_with_calls_are_found_by_their_text() -> None:
    strings = ["a", "<|observation|>x", "", "<|observation|>", "<|user|>"]
    text = text_with(OutputFormats(GLM, None))
    text.table = TokenTable(packed(range(5)), Strings.of(strings), packed([3, 4]), ByteLevel())
    parsing, _ = looked_for(OutputFormats(GLM, None), tools=TOOLS)
    assert parsing is not None
    assert parsing.ends(text) == {3}
    assert parsing.ends(text_with(OutputFormats())) == set()

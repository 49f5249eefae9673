"""Grammars of tool calls, and the parser that reads what they allow: both are made from the table of formats."""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mlx_sidecar.front.api.tool_grammar import calls_form
from mlx_sidecar.front.channels import TEXT
from mlx_sidecar.front.output.chat_parser import ChatParser
from mlx_sidecar.front.output.formats.grammar import before_form, call_shape
from mlx_sidecar.front.output.formats.table import TOOL_FORMATS, OutputFormats
from mlx_sidecar.front.output.formats.tool_format import Bare, Parameters, ReasoningFormat, ToolFormat
from mlx_sidecar.link.forms import CallShape, Reasoning
from mlx_sidecar.text.forms.grammars import grammar_of
from mlx_sidecar.text.forms.rules import text_of
from mlx_sidecar_protocol.generate import GenerateParams
from tests.support.tool_walks import Words, closings_of

POINT = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "number"}}, "required": ["x"]}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer", "minimum": 0, "maximum": 20},
                    "more": {
                        "type": "object",
                        "properties": {"list": {"type": "array", "items": {"type": ["integer", "boolean", "null"]}}},
                        "required": ["list"],
                        "additionalProperties": False,
                    },
                    "detailed": {"type": "boolean"},
                    "unit": {"enum": ["celsius", "fahrenheit"]},
                },
                "required": ["city", "days", "more"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "places.find-all",
            "parameters": {
                "type": "object",
                "properties": {
                    "code": {"type": "string", "pattern": "^[a-z]{2,4}$|x"},
                    "note": {"type": "string", "minLength": 2, "maxLength": 8},
                    "day": {"type": "string", "format": "date"},
                    "at": {"$ref": "#/$defs/point"},
                    "names": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
                    "either": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
                    "size": {"type": "number", "exclusiveMinimum": 0},
                },
                "required": ["code", "at"],
                "$defs": {"point": POINT},
            },
        },
    },
    {"name": "nothing"},
]
SCHEMAS = {
    "get_weather": TOOLS[0]["function"]["parameters"],
    "places.find-all": TOOLS[1]["function"]["parameters"],
    "nothing": {"type": "object", "maxProperties": 0},
}
THINK = ReasoningFormat("<think>", "</think>")


def params(**asked: Any) -> GenerateParams:
    chat = {"model": "m", "messages": [{"role": "user", "content": "?"}], "tools": TOOLS}
    return GenerateParams.model_validate({**chat, **asked})


def words_of(format_: ToolFormat, *, special: bool) -> Words:
    more = ["<|start|>", "<|end|>"] if format_.layout == "harmony" else []
    return Words([*dict.fromkeys([*format_.tokens, *more])], special)


def grammar(
    format_: ToolFormat, words: Words, reasoning: ReasoningFormat | None = None, mode: Reasoning = "none", **asked: Any
) -> str:
    form = calls_form(params(**asked), format_, words.id_of, None)
    assert form is not None
    formats = OutputFormats(format_, reasoning)
    return grammar_of(form, before_form(formats, mode, words.id_of, words.id_of if words.special else lambda _: None))


def closings(format_: ToolFormat) -> list[str]:
    body = format_.body
    value = body.close if isinstance(body, Parameters) else body.quote if isinstance(body, Bare) else '"'
    return closings_of(value, value.strip(), format_.close, format_.end)


def shape_of(format_: ToolFormat, words: Words) -> CallShape:
    return call_shape(format_, words.id_of)


def parsed(
    format_: ToolFormat,
    answer: str,
    reasoning: ReasoningFormat | None = None,
    valid: Collection[str] = SCHEMAS,
) -> tuple[str, list[Any]]:
    """The text, and the calls, each whole, and with arguments that are valid for the tools named."""
    parser = ChatParser(OutputFormats(format_, reasoning), TOOLS)
    segments = [*parser.push(answer, [1] * len(answer)), *parser.finish(cut=False)]
    outcome = parser.outcome
    assert (outcome.error, outcome.unfinished) == (None, ()), answer
    names = {segment.channel: segment.head.name for segment in segments if segment.head is not None}
    told = {channel: "".join(s.text for s in segments if s.channel == channel) for channel in (TEXT, *outcome.calls)}
    for channel in outcome.calls:
        arguments = json.loads(told[channel])
        if names[channel] not in valid:
            continue
        errors = [*Draft202012Validator(SCHEMAS[names[channel]]).iter_errors(arguments)]
        assert not errors, (answer, errors)
    return told[TEXT], [names[channel] for channel in outcome.calls]


BY_NAME = [pytest.param(format_, id=format_.name) for format_ in TOOL_FORMATS]
ANNOUNCED = [pytest.param(format_, id=format_.name) for format_ in TOOL_FORMATS if format_.announced]


@pytest.mark.parametrize("special", [True, False], ids=["tokens", "texts"])
@pytest.mark.parametrize("format_", BY_NAME)
def test_whatever_a_grammar_allows_is_read_as_whole_calls(format_: ToolFormat, special: bool) -> None:
    words = words_of(format_, special=special)
    allowed, whole = grammar(format_, words, tool_choice="required"), 0
    for seed in range(4):
        answer = words.walk(allowed, random.Random(seed), closings(format_))
        if answer is None:
            continue
        whole += 1
        text, names = parsed(format_, answer)
        assert text == "", answer
        assert names, answer
    assert whole


@pytest.mark.parametrize("special", [True, False], ids=["tokens", "texts"])
@pytest.mark.parametrize("format_", BY_NAME)
def test_where_a_strict_tool_is_offered_an_answer_is_text_and_whole_calls(format_: ToolFormat, special: bool) -> None:
    strict = [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}, *TOOLS[1:]]
    words = words_of(format_, special=special)
    allowed = grammar(format_, words, tools=strict)
    trigger = text_of(shape_of(format_, words).trigger) or format_.begin or "{"
    seen = set[bool]()
    for seed in range(4):
        answer = words.walk(allowed, random.Random(seed), [*closings(format_), trigger, trigger, trigger])
        if answer is not None:
            text, names = parsed(format_, answer, valid={"get_weather"})
            seen.add(bool(names))
            assert names or text.strip() == answer.strip() or format_.layout == "harmony"
    assert seen


@pytest.mark.parametrize("format_", BY_NAME)
def test_a_named_tool_is_called_once_and_no_other(format_: ToolFormat) -> None:
    words = words_of(format_, special=True)
    allowed = grammar(format_, words, tool_choice={"name": "nothing"})
    answer = words.walk(allowed, random.Random(1), [*closings(format_), "<|end|>"])
    assert answer is not None
    assert parsed(format_, answer) == ("", ["nothing"])


@pytest.mark.parametrize("format_", ANNOUNCED)
def test_no_block_of_calls_begins_where_none_is_allowed(format_: ToolFormat) -> None:
    for special in (True, False):
        words = words_of(format_, special=special)
        allowed = grammar(format_, words, tool_choice="none")
        head = "<|channel|>final<|message|>" if format_.layout == "harmony" else ""
        assert words.accepts(allowed, f"{head}It is [1] {{a}}: <b>\n")
        begun = "<|start|>assistant<|channel|>commentary to=" if head else format_.begin or format_.open
        assert not words.accepts(allowed, f"{head}Well. {begun}")
        assert not words.accepts(allowed, f"{head}Well. {begun.strip()} more")

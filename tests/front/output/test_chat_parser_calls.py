"""Calls in parsed answers: what is one, what is not whole, and what other parsers get wrong."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.channels import TEXT
from mlx_sidecar.front.output.chat_parser import ChatParser, random_id, shown_tokens
from mlx_sidecar.front.output.formats.table import TOOL_FORMATS, OutputFormats
from mlx_sidecar.front.output.parser import Unfinished
from tests.support.parsed import THINK, Parsed, formats, parsed
from tests.support.tool_texts import RENDERERS, format_name

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}}]
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "x"}}\n</tool_call>'


def hermes(answer: str | Sequence[str], *, cut: bool = False, thinking: bool = False) -> Parsed:
    return parsed(formats("hermes", THINK), TOOLS, answer, cut=cut, thinking=thinking)


# Calls.


def test_arguments_are_passed_on_as_they_are_written() -> None:
    parser = ChatParser(formats(), TOOLS, new_id=lambda: "an id")
    parser.push('<tool_call>{"name": "f", "arguments":', [0])
    told = [segment for piece in (' {"a"', ': "1', ' \\n2"', "}") for segment in parser.push(piece, [0])]
    assert [(segment.channel, segment.text) for segment in told] == [(0, '{"a"'), (0, ': "1'), (0, ' \\n2"'), (0, "}")]
    assert [segment.head and segment.head.id for segment in told] == ["an id", None, None, None]


def test_a_string_streams_where_its_type_is_known() -> None:
    parser = ChatParser(formats("qwen3_coder"), TOOLS)
    parser.push("<tool_call>\n<function=f>\n<parameter=a>", [0])
    told = [[segment.text for segment in parser.push(piece, [0])] for piece in ('\nx"', "y\n", "z", "\n</para")]
    assert told == [['"x\\"'], ["y"], ["\\nz"], []]


def test_a_string_within_a_value_may_hold_the_markers_behind_it() -> None:
    tools = [{"name": "f", "parameters": {"properties": {"o": {"type": "object"}}}}]
    value = '{"x": "</parameter>\\n</function>\\n</tool_call>", "y": "\\\\</parameter><parameter=z>"}'
    answer = f"<tool_call>\n<function=f>\n<parameter=o>\n{value}\n</parameter>\n</function>\n</tool_call>"
    for pieces in (answer, list(answer)):
        assert parsed(formats("qwen3_coder"), tools, pieces).calls == [("f", {"o": json.loads(value)})]


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('{"arguments": {"a": "x"}, "name": "f"}', {"a": "x"}),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', {"a": 1}),
        ('{"name": "f", "arguments": null}', {}),
        ('{"name": "f"}', {}),
        ('{"name":"f","arguments":{},"name":"g","arguments":{"a":2}}', {}),
        ('{"type": "function", "extra": [{"name": 1}], "name": "f", "arguments": {"a": "x"}}', {"a": "x"}),
        ('{"name": "f", "arguments": {"a": "x"}', {"a": "x"}),
    ],
)
def test_members_of_a_call_stand_in_any_order_and_others_are_skipped(body: str, arguments: dict[str, Any]) -> None:
    told = hermes(f"<tool_call>{body}</tool_call>")
    assert told.calls == [("f", arguments)]
    assert told.outcome.error is None


@pytest.mark.parametrize(
    "body",
    [
        "I would call f",
        '"f"',
        '[{"name": "f"}]',
        '{"arguments": {}}',
        '{"name": "a b", "arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"name": 5, "arguments": {}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "no object"}',
        '{"name": "f", "arguments": "[1]"}',
        "{}",
        "",
    ],
)
def test_a_body_that_is_no_call_is_text_with_an_error(body: str) -> None:
    answer = f"So: <tool_call>\n{body}\n</tool_call> Done."
    told = hermes(answer)
    assert told.channels == {TEXT: answer}
    assert told.outcome.error
    assert not told.outcome.calls


@pytest.mark.parametrize(
    "arguments", ['{"a": 01}', '{"a": "\\d"}', '{"a": "x\ny"}', "{'a': 1}", '{"a" 1}', '{"a": nil}']
)
def test_arguments_that_stop_being_json_make_the_call_unfinished(arguments: str) -> None:
    call = f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'
    told = hermes(f"{call} Well. {CALL}")
    assert told.outcome.unfinished == (Unfinished(call, 0),)
    assert told.outcome.error
    assert told.outcome.calls == (1,)
    assert told.text == " Well."


def test_two_calls_in_one_block_are_two_calls() -> None:
    one, two = '{"name": "f", "arguments": {}}', '{"name": "g", "arguments": {}}'
    assert hermes(f"<tool_call>{one}\n{two}</tool_call>").calls == [("f", {}), ("g", {})]


def test_a_tool_that_the_request_has_not_is_called_where_calls_are_announced() -> None:
    assert hermes('<tool_call>{"name": "unknown"}</tool_call>').calls == [("unknown", {})]


@pytest.mark.parametrize(
    "answer",
    ['{"name": "unknown", "parameters": {}}', '{"items": [1, 2]}', '{"name": {"first": "f"}}', '{"name"', "{", "[1]"],
)
def test_json_that_names_no_tool_is_text_where_calls_are_not_announced(answer: str) -> None:
    told = parsed(formats("llama3_json"), TOOLS, answer)
    assert told.channels == {TEXT: answer}
    assert told.outcome.error is None


def test_calls_that_are_not_announced_stand_at_the_beginning_alone() -> None:
    answer = 'See {"name": "f", "parameters": {}}'
    assert parsed(formats("llama3_json"), TOOLS, answer).channels == {TEXT: answer}


@pytest.mark.parametrize(("behind", "text"), [("\n", ""), (" \n", ""), (" and so.", " and so."), ("; no", "; no")])
def test_text_behind_a_call_that_was_not_announced_is_text(behind: str, text: str) -> None:
    told = parsed(formats("llama3_json"), TOOLS, '{"name": "f", "parameters": {}}' + behind)
    assert told.calls == [("f", {})]
    assert told.text == text


@pytest.mark.parametrize(("behind", "text"), [("]\n", ""), ("]<|python_end|>\n", ""), ("] and so.", " and so.")])
def test_text_behind_a_list_of_calls_is_text(behind: str, text: str) -> None:
    told = parsed(formats("llama4_pythonic"), TOOLS, f"[f(a='x'){behind}")
    assert told.calls == [("f", {"a": "x"})]
    assert told.text == text


def test_the_ids_of_the_model_are_kept_where_it_writes_some() -> None:
    kimi = parsed(formats("kimi_k2"), TOOLS, RENDERERS["kimi_k2"]([("f", {}), ("f", {})]))
    assert [head.id for head in kimi.heads] == ["functions.f:0", "functions.f:1"]
    mistral = parsed(
        formats("mistral_v11"), TOOLS, "[TOOL_CALLS]f[CALL_ID]one[ARGS]{}[TOOL_CALLS]f[CALL_ID]one[ARGS]{}"
    )
    assert [head.id for head in mistral.heads] == ["one", "id0"]


def test_random_ids_are_as_templates_of_mistral_want_them() -> None:
    ids = {random_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 9 and set(each) <= set(string.ascii_letters + string.digits) for each in ids)


def test_the_special_tokens_of_calls_are_shown_only_where_calls_are_looked_for() -> None:
    of = formats("kimi_k2", THINK)
    assert shown_tokens(of, calls=False) == {"<think>", "</think>"}
    assert "<|tool_call_end|>" in shown_tokens(of, calls=True)
    assert "<|channel|>" in shown_tokens(formats("harmony"), calls=False)


# The end.


def test_a_call_that_is_cut_off_is_unfinished_and_not_in_the_text() -> None:
    told = hermes(f"So.\n{CALL[:40]}", cut=True)
    assert told.text == "So."
    assert told.outcome.unfinished == (Unfinished(CALL[:40].strip(), 0),)
    assert told.outcome.error is None


def test_a_call_that_is_cut_off_before_its_name_has_no_index() -> None:
    told = hermes('<tool_call>{"nam', cut=True)
    assert told.channels == {}
    assert told.outcome.unfinished == (Unfinished('<tool_call>{"nam', None),)


def test_a_turn_that_ends_within_the_arguments_is_an_error() -> None:
    told = hermes(CALL[: CALL.index("x")])
    assert told.outcome.unfinished
    assert told.outcome.error == "the answer ends within a call"


def test_a_call_is_whole_without_its_closing_markers_if_the_model_ended_its_turn() -> None:
    arguments = CALL.removesuffix("\n</tool_call>")
    assert hermes(arguments).calls == hermes(arguments.removesuffix("}")).calls == [("f", {"a": "x"})]
    assert hermes(arguments, cut=True).calls == []


# Faults of other servers' parsers.


def test_a_call_that_max_tokens_cuts_is_told_as_unfinished() -> None:
    assert all(not hermes(CALL[:end], cut=True).calls for end in range(len(CALL)))


def test_lists_of_a_function_gemma_call_are_lists() -> None:
    answer = "<start_function_call>call:f{tags:[1,2],n:5}<end_function_call>"
    assert parsed(formats("function_gemma"), TOOLS, answer).calls == [("f", {"tags": [1, 2], "n": 5})]


def test_arguments_of_a_kimi_call_that_is_cut_are_no_string() -> None:
    answer = '<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"a": 1'
    told = parsed(formats("kimi_k2"), TOOLS, answer, cut=True)
    assert told.calls == []
    assert told.outcome.unfinished == (Unfinished(answer, 0),)


def test_prose_between_the_markers_of_glm_is_no_call() -> None:
    answer = "<tool_call>I would call f now</tool_call>"
    assert parsed(formats("glm"), TOOLS, answer).channels == {TEXT: answer}


@pytest.mark.parametrize("form", ["qwen3_coder", "minimax_m2"])
@pytest.mark.parametrize("value", ["null", "007", "True", "[1]", "1e5", '"quoted"'])
def test_a_string_parameter_stays_a_string(form: str, value: str) -> None:
    assert parsed(formats(form), TOOLS, RENDERERS[form]([("f", {"a": value})])).calls == [("f", {"a": value})]


def test_a_value_may_hold_the_marker_that_ends_values() -> None:
    value = "x</parameter>y</parameter>"
    assert parsed(formats("qwen3_coder"), TOOLS, RENDERERS["qwen3_coder"]([("f", {"a": value})])).calls == [
        ("f", {"a": value})
    ]


def test_an_expression_of_python_is_no_literal() -> None:
    told = parsed(formats("lfm2"), TOOLS, "<|tool_call_start|>[f(m=1+2)]<|tool_call_end|>")
    assert told.calls == []
    assert told.outcome.error == "'1+2' is no literal"


# Any text at all.

FORMS = st.sampled_from(sorted(RENDERERS))


@st.composite
def answers(draw: st.DrawFn) -> tuple[OutputFormats, list[str]]:
    """A format, and pieces of an answer with parts of its markers, in any order."""
    renderer = draw(FORMS)
    example = RENDERERS[renderer]([("f", {"a": "x", "n": [1, {"b": None}]}), ("g", {})])
    parts = [part for part in re.split(r"(\W)", example) if part] + ["<think>", "</think>", "f", " ", "\n"]
    cuts = draw(st.lists(st.integers(0, len(example)), max_size=4).map(sorted))
    slices = [example[begin:end] for begin, end in pairwise([0, *cuts, len(example)])]
    pieces = draw(st.lists(st.sampled_from(parts) | st.sampled_from(slices) | st.text(max_size=3), max_size=12))
    return formats(format_name(renderer), draw(st.sampled_from([None, THINK]))), pieces


@given(answers(), st.booleans(), st.booleans())
def test_any_answer_is_sorted_the_same_in_any_pieces_and_nothing_of_it_is_lost(
    answer: tuple[OutputFormats, list[str]], cut: bool, thinking: bool
) -> None:
    of, pieces = answer
    told = parsed(of, TOOLS, pieces, cut=cut, thinking=thinking)
    whole = "".join(pieces)
    again = parsed(of, TOOLS, whole, cut=cut, thinking=thinking)
    assert (again.channels, again.heads) == (told.channels, told.heads)
    assert again.outcome.calls == told.outcome.calls
    assert again.outcome.unfinished == told.outcome.unfinished
    assert again.outcome.error == told.outcome.error
    no_markers = of.reasoning is None and of.tools is not None and of.tools.layout == "plain"
    if no_markers and not told.heads and not told.outcome.unfinished:
        assert told.text == whole


def test_every_format_of_the_table_has_a_name_of_its_own() -> None:
    assert len({form.name for form in TOOL_FORMATS}) == len(TOOL_FORMATS)

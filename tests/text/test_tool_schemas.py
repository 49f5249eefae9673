"""Arguments keep to the schema of their tool in the way of each format; what cannot is refused by its path."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.front.api.tool_grammar import calls_form
from mlx_sidecar.front.output.formats.table import tool_format
from mlx_sidecar.text.forms.grammars import grammar_of
from mlx_sidecar.text.forms.plain_strings import FORMATS
from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import GenerateParams
from tests.support.forms import accepts

PLACE = ["tools", 0, "parameters", "properties", "a"]


def grammar(format_: str, schema: Any, **more: Any) -> str:
    """The grammar of a call of ``f`` with an argument ``a`` under ``schema``."""
    whole = {"type": "object", "properties": {"a": schema}, "required": ["a"], **more}
    chat = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
    tool = {"name": "f", "parameters": whole}
    asked = GenerateParams.model_validate({**chat, "tools": [tool], "tool_choice": "required"})
    form = calls_form(asked, tool_format(format_), _none, None)
    assert form is not None
    return grammar_of(form)


def _none(string: str) -> int | None:
    return None


def call(format_: str, value: str) -> str:
    """A call with ``value``, as models write it."""
    return {
        "qwen3_coder": f"<tool_call>\n<function=f>\n<parameter=a>\n{value}\n</parameter>\n</function>\n</tool_call>",
        "lfm2": f"<|tool_call_start|>[f(a={value})]<|tool_call_end|>",
        "gemma4": f"<|tool_call>call:f{{a:{value}}}<tool_call|>",
        "hermes": f'<tool_call>\n{{"name": "f", "arguments": {{"a": {value}}}}}\n</tool_call>',
    }[format_]


@pytest.mark.parametrize(
    ("format_", "schema", "good", "bad"),
    [
        ("qwen3_coder", {"type": "string"}, ["null", "007", "[1]", 'Pa"ris', "a\nb", ""], ["a</parameter>b"]),
        ("qwen3_coder", {"type": "string", "enum": ["a", "ab"]}, ["a", "ab"], ["b", '"a"', "abb"]),
        ("qwen3_coder", {"type": "string", "pattern": "^a|b$"}, ["ax", "xb", "b"], ["xa", "bx"]),
        ("qwen3_coder", {"type": "string", "pattern": "[|]x"}, ["a|xb"], ["x"]),
        ("qwen3_coder", {"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "a c"], ["a", "abcd"]),
        ("qwen3_coder", {"type": "string", "format": "date"}, ["2024-02-28", "2024-01-31"], ["2024-02-30", "soon"]),
        ("qwen3_coder", {"type": ["string", "null"]}, ["null", '"a"'], ["a"]),
        ("qwen3_coder", {"type": "integer"}, ["5", "-7"], ["5.5", "five", '"5"']),
        ("qwen3_coder", {"$ref": "#/$defs/n"}, ["5"], ["x"]),
        ("lfm2", {"type": "string"}, ['"a"', r'"a\"b\n"', '""'], ["'a'", "a", '"a']),
        ("lfm2", {"type": "string", "pattern": "^x+$"}, ['"xx"'], ['"xy"', '""']),
        ("lfm2", {"type": "boolean"}, ["True", "False"], ["true", "None"]),
        ("lfm2", {"enum": [None, 3, "x", [True]]}, ["None", "3", '"x"', "[True]"], ["null", "[False]", "4"]),
        ("lfm2", {"anyOf": [{"type": "null"}, {"type": "integer"}]}, ["None", "12"], ["1.5"]),
        ("lfm2", {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, ["[1]", "[1, 2]"],
         ["[]", "[1, 2, 3]", "[1,2]"]),
        ("lfm2", {"type": "object", "additionalProperties": {"type": "null"}}, ["{}", '{"b": None, "c": None}'],
         ['{"b": 1}']),
        ("lfm2", {}, ["None", '{"b": [1, "x", {}]}', "-1.5"], ["null"]),
        ("gemma4", {"type": "string"}, ['<|"|>Pa"ris<|"|>', '<|"|>{}<|"|>'], ['"a"', "a"]),
        ("gemma4", {"type": "object", "properties": {"b": {"type": "boolean"}}}, ["{b:true}", "{}"], ['{"b":true}']),
        ("hermes", {"type": "string"}, ['"a"'], ["'a'"]),
    ],
)  # fmt: skip
def test_a_value_is_held_to_its_schema_in_the_way_of_its_format(
    format_: str, schema: Any, good: list[str], bad: list[str]
) -> None:
    allowed = grammar(format_, schema, **{"$defs": {"n": {"type": "integer"}}})
    assert [value for value in good if not accepts(allowed, call(format_, value))] == []
    assert [value for value in bad if accepts(allowed, call(format_, value))] == []


def test_optional_arguments_may_be_left_out_and_others_do_not_come() -> None:
    more = {"a": {"type": "integer"}, "b": {"type": "integer"}, "c": {"type": "integer"}}
    for format_, values in (("lfm2", "1, b=2, c=3"), ("gemma4", "1,b:2,c:3"), ("hermes", '1, "b": 2, "c": 3')):
        allowed = grammar(format_, {}, properties=more, required=["a", "c"])
        assert accepts(allowed, call(format_, values))
        assert accepts(allowed, call(format_, re.sub(r',\s*"?b"?\s*[=:]\s*2', "", values)))
        assert not accepts(allowed, call(format_, "1"))
        assert not accepts(allowed, call(format_, values.replace("c", "d")))


@pytest.mark.parametrize(
    ("format_", "schema", "loc"),
    [
        ("qwen3_coder", {"type": "string", "anyOf": [{"maxLength": 2}]}, [*PLACE, "anyOf"]),
        ("qwen3_coder", {"type": "string", "enum": ["a</parameter>"]}, [*PLACE, "enum"]),
        ("qwen3_coder", {"type": "array", "items": {"$ref": "#/properties/a"}}, [*PLACE, "items", "$ref"]),
        ("lfm2", {"allOf": [{"type": "integer"}]}, [*PLACE, "allOf"]),
        ("lfm2", {"type": "array", "prefixItems": [{}]}, [*PLACE, "prefixItems"]),
        ("lfm2", {"$ref": "#/properties/a"}, [*PLACE, "$ref"]),
        ("gemma4", {"type": "object", "properties": {"two words": {}}}, [*PLACE, "properties", "two words"]),
        ("hermes", {"not": {}}, [*PLACE, "not"]),
    ],
)
def test_what_cannot_be_kept_to_in_a_format_is_refused_by_its_path(format_: str, schema: Any, loc: list[Any]) -> None:
    with pytest.raises(InvalidParams) as caught:
        grammar(format_, schema)
    assert caught.value.details["errors"][0]["loc"] == loc


@settings(max_examples=60, deadline=None)
@given(st.from_regex(re.compile(FORMATS["date"], re.ASCII), fullmatch=True))
def test_every_date_that_may_be_written_is_one(text: str) -> None:
    if text[:4] != "0000":  # which Python has not
        assert date.fromisoformat(text).isoformat() == text

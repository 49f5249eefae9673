"""Values that stand between markers are written as JSON of the type that the schema gives."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest

from mlx_sidecar.front.output.calls.value_types import STRING, ToolTypes, written


def types_of(schema: Any, **root: Any) -> frozenset[str] | None:
    return ToolTypes([{"name": "f", "parameters": {"properties": {"a": schema}, **root}}]).of("f", "a")


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"type": "string", "nullable": True}, {"string", "null"}),
        ({"enum": ["a", "b"]}, {"string"}),
        ({"enum": [1, None]}, {"integer", "null"}),
        ({"const": 1.5}, {"number"}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"integer", "null"}),
        ({"oneOf": [{"type": "integer"}, {}]}, None),
        ({"allOf": [{"description": "x"}, {"type": "array"}]}, {"array"}),
        ({"$ref": "#/$defs/Color"}, {"string"}),
        ({"anyOf": [{"$ref": "#/$defs/Self"}, {"type": "boolean"}]}, {"boolean", "null"}),
        ({"$ref": "#/nowhere"}, None),
        ({"type": "any"}, None),
        ({"type": [{}]}, None),
        ({"enum": 5}, None),
        ({}, None),
        (True, None),
    ],
)
def test_the_types_of_a_parameter_are_read_off_its_schema(schema: Any, types: set[str] | None) -> None:
    defs = {"Color": {"enum": ["red"]}, "Self": {"anyOf": [{"$ref": "#/$defs/Self"}, {"type": "null"}]}}
    assert types_of(schema, **{"$defs": defs}) == types


@pytest.mark.parametrize("tool", [{}, {"name": "f"}, {"function": 5}, {"name": "f", "parameters": []}])
def test_a_tool_without_a_schema_tells_no_types(tool: dict[str, Any]) -> None:
    assert ToolTypes([tool]).of("f", "a") is None


@pytest.mark.parametrize(
    ("text", "types", "value"),
    [
        ("007", {"string"}, "007"),
        ("null", {"string"}, "null"),
        (" 5 ", {"integer"}, 5),
        ("5.0", {"integer"}, 5.0),
        ("5.5", {"integer"}, "5.5"),
        ("5", {"number"}, 5),
        ("True", {"boolean"}, True),
        ("false", {"boolean"}, False),
        ("yes", {"boolean"}, "yes"),
        ("None", {"string", "null"}, None),
        ("none", {"string", "null"}, "none"),
        ("5", {"string", "integer"}, 5),
        ("{'a': (1, None)}", {"object"}, {"a": [1, None]}),
        ('{"a": 1}', {"array"}, '{"a": 1}'),
        ("[1, 2", {"array"}, "[1, 2"),
        ("1e999", {"number"}, float("inf")),
        (".5e999", {"number"}, ".5e999"),
        ("", {"integer"}, ""),
        ("5", None, 5),
        ("True", None, "True"),
        ("[1", None, "[1"),
        ('"a"', None, "a"),
        ("a\nb", None, "a\nb"),
    ],
)
def test_a_value_is_of_a_type_that_it_may_have_or_a_string(text: str, types: set[str] | None, value: Any) -> None:
    told = json.loads(written(text, None if types is None else frozenset(types)))
    assert (type(told), told) == (type(value), value)


@pytest.mark.parametrize("text", ["a", "é🙂", '"', "\\", "\n", "</parameter>"])
def test_a_string_is_written_as_it_stands(text: str) -> None:
    assert json.loads(written(text, STRING)) == text


@pytest.mark.parametrize(
    "literal",
    [
        r"'\n\t\\\'\"\x41\u00e9\U0001f642'",
        '"it\'s"',
        "''",
        "'''a'b\n''c'''",
        '"""x"""',
        "[1, -2.5, +3, 1_000, .5, 5., 1e3, True, None, [], {}, (), (1,), {'a': 'b', },]",
        "'a\\\nb'",
    ],
)
def test_literals_of_python_mean_what_they_mean_in_python(literal: str) -> None:
    value = ast.literal_eval(literal)
    types = frozenset({"array", "null"})
    assert json.loads(written(f"[{literal}]", types)) == json.loads(json.dumps([value]))


@pytest.mark.parametrize(
    "text", ["[1+2]", "[a]", "[f()]", "[b'x']", "['\\xg']", "['a' 'b']", "[007]", "[nan]", "[{'a'}]", "[1]]"]
)
def test_what_is_no_literal_is_a_string(text: str) -> None:
    assert json.loads(written(text, frozenset({"array"}))) == text

"""Rules of a call: its name, and its arguments in the way of the model's format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ...link.forms import (
    BareArguments,
    CallShape,
    MarkedArguments,
    Marker,
    ObjectArguments,
    ObjectCall,
    Path,
    PythonArguments,
    Tool,
)
from .keywords import subschemas
from .literals import BareLiterals, PythonLiterals
from .plain_strings import string_up_to
from .refusals import refusal
from .rules import NOTHING, Ref, Rules
from .schemas import check_schema, parsed_schema, schema_grammar

# The form of ids that every template takes, Mistral's among them; and of those that are numbers.
_ID = "/[a-zA-Z0-9]{9}/"
_NUMBER = "/[0-9]{1,4}/"
_NAME = re.compile(r"[\w.$/-]+")
_ANY_NAME = "/[A-Za-z_][A-Za-z0-9_]{0,62}/"
_DEFINITIONS = ("$defs", "definitions")
_OPENS = {"patternProperties", "allOf", "anyOf", "oneOf", "$ref"}  # beside which other members may have to be allowed

Schema = dict[str, Any]


def call_of(rules: Rules, shape: CallShape, tool: Tool) -> Ref:
    """A call of ``tool`` behind ``open``. Raises InvalidParams for a schema that it cannot be held to."""
    schema = None if tool.schema is None else _checked(tool, tool.schema)
    match shape.body:
        case ObjectCall():
            inner = _object(rules, shape.body, tool.name, _json_object(rules, schema))
            return rules.sequence(*inner, shape.close)
        case ObjectArguments():
            name = [f"functions.{tool.name}:", rules.terminal(_NUMBER)] if shape.body.indexed else [tool.name]
            id_ = [shape.before_id, rules.terminal(_ID)] if shape.before_id else []
            return rules.sequence(*name, *id_, shape.after_name, _json_object(rules, schema), shape.close)
        case MarkedArguments():
            return rules.sequence(tool.name, shape.after_name, _marked(rules, shape.body, tool, schema), shape.close)
        case PythonArguments():
            return rules.sequence(f"{tool.name}(", _python(rules, tool, schema), ")", shape.close)
        case BareArguments():
            bare = _bare(rules, shape.body, tool, schema)
            return rules.sequence(tool.name, shape.after_name, "{", bare, "}", shape.close)


def _checked(tool: Tool, text: bytes) -> Schema:
    """The schema of the tool's arguments, an object without members that the tool does not name."""
    schema = parsed_schema(text, tool.schema_place)
    if schema.get("type", "object") != "object":
        raise refusal([*tool.schema_place, "type"], "arguments are an object")
    if "properties" in schema and not _OPENS & schema.keys():
        schema = {"additionalProperties": False, **schema}
    schema = {**schema, "type": "object"}
    check_schema(schema, tool.schema_place, fixed=True)
    return schema


def _json_object(rules: Rules, schema: Schema | None) -> Ref:
    return rules.grammar(schema_grammar({"type": "object"} if schema is None else schema, fixed=True))


def _object(rules: Rules, body: ObjectCall, name: str, arguments: Ref) -> list[str]:
    call = [f'"{body.name}": {json.dumps(name, ensure_ascii=False)}, "{body.arguments}": ', arguments]
    if body.id is None:
        return ["{", *call, "}"]
    if body.id_first:
        return [f'{{"{body.id}": "', rules.terminal(_NUMBER), '", ', *call, "}"]
    return ["{", *call, f', "{body.id}": "', rules.terminal(_ID), '"}']


# Arguments that are no JSON object.


def _marked(rules: Rules, body: MarkedArguments, tool: Tool, schema: Schema | None) -> Ref:
    between = rules.sequence(body.between)
    if schema is None:
        name = rules.terminal(_ANY_NAME)
        argument = rules.sequence(body.open, name, _after_name(body, text=True), rules.up_to(body.close))
        return rules.one_of([rules.list_of(argument, between), NOTHING])
    properties = _properties(tool, schema)
    required = schema.get("required", [])
    items = [(_argument(rules, body, tool, schema, name), name in required) for name in properties]
    return rules.in_order(items, between)


def _argument(rules: Rules, body: MarkedArguments, tool: Tool, schema: Schema, name: str) -> Ref:
    place: Path = [*tool.schema_place, "properties", name]
    if not _NAME.fullmatch(name):
        raise refusal(place, "models of this format cannot write this name")
    part, text = schema["properties"][name], name in tool.texts
    if text:
        value = string_up_to(rules, body.close, part if isinstance(part, dict) else {}, place)
    else:
        value = rules.sequence(rules.grammar(schema_grammar(_part(schema, part, place), fixed=True)), body.close)
    return rules.sequence(body.open, name, _after_name(body, text=text), value)


def _after_name(body: MarkedArguments, *, text: bool) -> Marker:
    told = "true" if text else "false"
    return [piece.replace("{string}", told) if isinstance(piece, str) else piece for piece in body.after_name]


def _part(schema: Schema, part: Any, place: Path) -> Schema:
    """A part of ``schema`` as a schema of its own, with the definitions that it may refer to."""
    if not isinstance(part, dict):
        return {} if part else {"enum": []}
    for path, reference in _references(part):
        if not reference.startswith(tuple(f"#/{name}/" for name in _DEFINITIONS)):
            why = "for models of this format it must lead into $defs or definitions of the schema"
            raise refusal([*place, *path], why)
    return {**part, **{name: schema[name] for name in _DEFINITIONS if name in schema}}


def _references(schema: Schema) -> Iterator[tuple[Path, str]]:
    return (([*path, "$ref"], node["$ref"]) for path, node in subschemas(schema) if "$ref" in node)


def _python(rules: Rules, tool: Tool, schema: Schema | None) -> Ref:
    values = PythonLiterals(rules, schema or {}, tool.schema_place)
    if schema is None:
        argument = rules.sequence(values.any_keyword(), values.anything())
        return rules.one_of([rules.list_of(argument, values.separator), NOTHING])
    _properties(tool, schema)
    return values.members(schema, [], values.keyword)


def _bare(rules: Rules, body: BareArguments, tool: Tool, schema: Schema | None) -> Ref:
    values = BareLiterals(rules, schema or {}, tool.schema_place, body.quote)
    if schema is None:
        argument = rules.sequence(values.any_key(), values.anything())
        return rules.one_of([rules.list_of(argument, values.separator), NOTHING])
    _properties(tool, schema)
    return values.members(schema, [], values.key)


def _properties(tool: Tool, schema: Schema) -> Schema:
    """The properties of ``schema``. Raises InvalidParams for keywords that say anything else of the whole arguments."""
    for keyword in schema.keys() & {*_OPENS, "minProperties", "maxProperties", "enum", "const"}:
        why = "arguments are held to properties and required alone, in this model's format"
        raise refusal([*tool.schema_place, keyword], why)
    properties: Schema = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in properties:
            raise refusal([*tool.schema_place, "required"], f"{name[:64]!r} is none of the properties")
    return properties

"""Turns JSON Schema into the words and tables of the reference."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} of them",
}
_PREFIX = "#/$defs/"


def type_of(schema: Schema, types_page: str) -> str:
    """Return the type in words, as Markdown; a named type is a link into ``types_page``."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_PREFIX)
        return f"[{name}]({types_page}#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(type_of(part, types_page) for part in choices if part.get("type") != "null")
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    return _plain(schema, types_page)


def _plain(schema: Schema, types_page: str) -> str:
    kind = schema.get("type", "any value")
    if kind == "array":
        kind = f"list of {type_of(schema.get('items', {}), types_page)}"
    elif kind == "object":
        kind = _object(schema, types_page)
    elif isinstance(kind, list):
        kind = " or ".join(kind)
    bounds = [words.format(f"{schema[key]:,}") for key, words in _BOUNDS.items() if key in schema]
    return ", ".join([str(kind), *bounds])


def _object(schema: Schema, types_page: str) -> str:
    values = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    value = next((value for value in values if isinstance(value, dict) and value), None)
    return "object" if value is None else f"object whose values are: {type_of(value, types_page)}"


def default_of(schema: Schema) -> str:
    """Return the default as code, empty where there is none to name."""
    default = schema.get("default")
    return "" if default is None else f"`{json.dumps(default)}`"


def cell(text: str) -> str:
    """Return ``text`` as one cell of a table: one line, code in single back quotes, no bar that ends the cell."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split())).replace("|", "\\|")


def named_in(value: Any) -> Iterator[str]:
    """The names of the types that a schema refers to."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].removeprefix(_PREFIX)
        for part in value.values():
            yield from named_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from named_in(part)


def reachable(definitions: dict[str, Schema], roots: set[str]) -> list[str]:
    """Return the types that are named in ``roots`` or in such a type, in the order of the alphabet; without roots."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        for name in named_in(definitions[waiting.pop()]):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return sorted(found - roots)

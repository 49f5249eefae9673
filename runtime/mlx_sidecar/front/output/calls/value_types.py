"""The types that a tool's schema gives its parameters, and values written as JSON by them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from mlx_sidecar_protocol.tools import name_of

from .json_scan import JsonScan, quoted
from .literals import write_literal
from .source import SPACE, NotACall, OutOfText, Source

Types = frozenset[str]

STRING: Final[Types] = frozenset({"string"})
_KNOWN: Final = frozenset({"string", "integer", "number", "boolean", "object", "array", "null"})
_MAX_DEPTH: Final = 16


class ToolTypes:
    """The types of the parameters of a request's tools, as far as their schemas tell."""

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        self._schemas = {name: _parameters(tool) for tool in tools if (name := name_of(dict(tool))) is not None}
        self.of = cache(self._of)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._schemas)

    def _of(self, tool: str, parameter: str) -> Types | None:
        """The types that a value may have; None if the schema does not say."""
        schema = self._schemas.get(tool, {})
        properties = schema.get("properties")
        given = properties.get(parameter) if isinstance(properties, Mapping) else None
        return _types(given, schema, set()) or None


def _parameters(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    schema = (function if isinstance(function, Mapping) else tool).get("parameters")
    return schema if isinstance(schema, Mapping) else {}


def _types(schema: Any, root: Mapping[str, Any], seen: set[str], depth: int = 0) -> Types | None:
    """``seen``: the references that were followed, each once, because more of them can add no type."""
    if not isinstance(schema, Mapping) or depth == _MAX_DEPTH:
        return None
    reference = schema.get("$ref")
    if isinstance(reference, str):
        if reference in seen:
            return frozenset()
        seen.add(reference)
        return _types(_referred(reference, root), root, seen, depth + 1)
    declared = schema.get("type")
    if declared is not None:
        names = declared if isinstance(declared, list) else [declared]
        if not all(isinstance(name, str) and name in _KNOWN for name in names):
            return None
        return frozenset(names) | ({"null"} if schema.get("nullable") is True else set())
    if isinstance(values := [schema["const"]] if "const" in schema else schema.get("enum"), list):
        return frozenset(_type_of(json.dumps(value)) for value in values)
    branches = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(branches, list):
        found = [_types(branch, root, seen, depth + 1) for branch in branches]
        return None if None in found else frozenset().union(*filter(None, found))
    branches = schema.get("allOf")
    found = [_types(branch, root, seen, depth + 1) for branch in branches] if isinstance(branches, list) else []
    return next((types for types in found if types is not None), None)


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    at: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        at = at.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(at, Mapping) else None
    return at


def _type_of(text: str) -> str:
    """The type of a JSON value; ``integer`` counts as a number too."""
    match text[0]:
        case "{":
            return "object"
        case "[":
            return "array"
        case '"':
            return "string"
        case "t" | "f":
            return "boolean"
        case "n":
            return "null"
        case _:
            return "number" if any(mark in text for mark in ".eE") else "integer"


def written(text: str, types: Types | None) -> str:
    """The JSON of a value that stands as ``text``: a string, if it is nothing else that ``types`` allow."""
    if types is None:
        return stripped if _is_json(stripped := text.strip(SPACE)) else quoted(text)
    value = None if types == STRING else _literal(text)
    return quoted(text) if value is None or not _fits(value, types) else value


def _fits(value: str, types: Types) -> bool:
    found = _type_of(value)
    if found == "number" and "number" not in types and "integer" in types:
        return float(value).is_integer()  # as JSON Schema has it
    return found in types or (found == "integer" and "number" in types)


def _literal(text: str) -> str | None:
    """The JSON of a literal of JSON or Python; None if ``text`` is none."""
    text = text.strip(SPACE)
    if _is_json(text):
        return text
    parts: list[str] = []
    source = Source()
    source.feed(text + " ")
    source.ended = True
    try:
        for _ in write_literal(source, parts.append):
            pass
    except (NotACall, OutOfText):
        return None
    return "".join(parts) if source.text[source.at :] == " " else None


def _is_json(text: str) -> bool:
    scan = JsonScan()
    # The space behind it ends a number.
    return scan.scan(text + " ", 0) >= len(text) and scan.done and scan.error is None

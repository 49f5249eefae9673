"""The keywords of a JSON Schema that an answer is held to. Any other is refused, because it would be ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .refusals import Path


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


ENFORCED = _names(
    """$ref type enum const anyOf oneOf allOf
    properties additionalProperties patternProperties required minProperties maxProperties
    items prefixItems additionalItems minItems maxItems
    minLength maxLength pattern format
    minimum maximum exclusiveMinimum exclusiveMaximum multipleOf"""
)
ANNOTATIONS = _names(
    """$schema $id id $anchor $comment $defs definitions title description default example examples deprecated
    readOnly writeOnly discriminator"""
)
"""They say nothing of which values are valid; ``discriminator`` is OpenAPI's hint beside ``oneOf``."""

UNSUPPORTED = _names(
    """not if then else contains minContains maxContains uniqueItems unevaluatedItems
    dependentRequired dependentSchemas dependencies propertyNames unevaluatedProperties
    contentEncoding contentMediaType contentSchema $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor
    $vocabulary"""
)
"""Keywords of JSON Schema that no answer is held to."""

FORMATS = _names("date-time time date duration email hostname ipv4 ipv6 uuid uri")

_ONE = ("items", "additionalItems", "additionalProperties")
_LISTS = ("items", "prefixItems", "anyOf", "oneOf", "allOf")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")

Node = tuple[Path, dict[str, Any]]


def subschemas(schema: dict[str, Any]) -> Iterator[Node]:
    """``schema`` and every schema in it that is an object, each with its path, parents first."""
    waiting: list[Node] = [((), schema)]
    while waiting:
        path, node = waiting.pop()
        yield path, node
        waiting += reversed([(at, child) for at, child in _children(path, node) if isinstance(child, dict)])


def first_fault(schema: dict[str, Any]) -> tuple[Path, str] | None:
    """The path of the first keyword that an answer would not be held to, and the reason."""
    for path, node in subschemas(schema):
        for keyword, value in node.items():
            if (why := _why_not(keyword, value, node)) is not None:
                return (*path, keyword), why
    return None


def _why_not(keyword: str, value: Any, node: Mapping[str, Any]) -> str | None:
    if keyword in UNSUPPORTED:
        return f"the keyword {keyword} is not supported"
    if keyword not in ENFORCED and keyword not in ANNOTATIONS:
        return f"the keyword {keyword[:64]} is unknown, so that an answer would not be held to it"
    if keyword == "$ref" and not (isinstance(value, str) and value.startswith("#")):
        return "$ref must lead into the same schema and begin with #: no other document is fetched"
    if keyword == "format" and not (isinstance(value, str) and value in FORMATS) and _may_be_string(node):
        return f"this format is not known; known are {', '.join(sorted(FORMATS))}"
    return None


def _may_be_string(node: Mapping[str, Any]) -> bool:
    """Whether ``format`` says anything in ``node``: of other values than strings it does not."""
    type_ = node.get("type", "string")
    return "string" in type_ if isinstance(type_, str | list) else True


def _children(path: Path, node: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for keyword, value in node.items():
        if keyword in _ONE and not isinstance(value, list):
            yield (*path, keyword), value
        elif keyword in _LISTS and isinstance(value, list):
            yield from (((*path, keyword, at), child) for at, child in enumerate(value))
        elif keyword in _MAPS and isinstance(value, dict):
            yield from (((*path, keyword, name), child) for name, child in value.items())

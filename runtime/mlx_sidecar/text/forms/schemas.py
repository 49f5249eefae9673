"""Checks a JSON Schema before the queue, and finds the part of it that cannot be compiled."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, NoReturn

from . import keywords
from .refusals import Path, pointer, refusal
from .validation import fault_of_grammar, multi

SCHEMA_BYTES = 2**20
SEARCHED = 512  # parts of a schema that are compiled alone, to find the one at fault

OPTIONS = "x-guidance"
_REFERENCE = re.compile(r"\s+while processing ")  # the definition that led there
_DEFINITIONS = (("$defs",), ("definitions",))
_FIXED = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
# Without a bound weak models write white space until max_tokens.
_FLEXIBLE = {"whitespace_flexible": True, "whitespace_pattern": r"[ \n\r\t]{1,8}"}


def schema_grammar(schema: dict[str, Any], *, fixed: bool) -> dict[str, Any]:
    """The grammar of JSON under ``schema``; see ``JsonForm`` for ``fixed``."""
    return {"json_schema": with_whitespace(schema, fixed=fixed)}


def with_whitespace(schema: dict[str, Any], *, fixed: bool) -> dict[str, Any]:
    """``schema`` with llguidance's options for white space."""
    return {OPTIONS: _FIXED if fixed else _FLEXIBLE, **schema}


def parsed_schema(text: bytes, place: Sequence[str | int]) -> dict[str, Any]:
    """The schema that stands at ``place``, each of whose keywords an answer can be held to. Raises InvalidParams."""
    if len(text) > SCHEMA_BYTES:
        raise refusal(place, f"it has {len(text)} bytes, the limit is {SCHEMA_BYTES}", "too_long")

    def refuse(constant: str) -> NoReturn:
        raise refusal(place, f"a number is beyond what JSON holds: {constant}")

    schema: dict[str, Any] = json.loads(text, parse_constant=refuse)
    check_keywords(schema, place)
    return schema


def check_keywords(schema: dict[str, Any], place: Sequence[str | int]) -> None:
    """Raises InvalidParams for a keyword that an answer would not be held to."""
    if (fault := keywords.first_fault(schema)) is not None:
        path, why = fault
        raise refusal([*place, *path], f"{why} ({pointer(path)})")


def check_schema(schema: dict[str, Any], place: Sequence[str | int], *, fixed: bool) -> None:
    """Raises InvalidParams, naming the part at fault, if ``schema`` cannot be compiled."""
    why = _fault(schema, fixed=fixed)
    if why is None:
        return
    path = _part_at_fault(schema, why, fixed=fixed)
    raise refusal([*place, *path], f"{why} ({pointer(path)})")


def _fault(schema: dict[str, Any], *, fixed: bool) -> str | None:
    why = fault_of_grammar(multi(schema_grammar(schema, fixed=fixed)))
    return None if why is None else _REFERENCE.split(why)[0].strip()


def _part_at_fault(schema: dict[str, Any], why: str, *, fixed: bool) -> Path:
    """The path of the smallest part that alone cannot be compiled for the same reason; () if none is found.

    llguidance tells what is wrong, and not where.
    """
    defined: dict[str, Any] = {name: schema[name] for name in ("$defs", "definitions", "$schema") if name in schema}
    found: Path = ()
    # Definitions first, because whatever refers to one that is at fault is so too.
    parts = sorted(islice(keywords.subschemas(schema), SEARCHED), key=lambda node: node[0][:1] not in _DEFINITIONS)
    for path, part in parts:
        within = path[: len(found)] == found  # children follow their parents
        if path and within and _fault({**part, **defined}, fixed=fixed) == why:
            found = path
    return _keyword_of(found, schema, why)


def _keyword_of(path: Path, schema: Any, why: str) -> Path:
    """``path`` down to the keyword that ``why`` is about, where it says so."""
    for part in path:
        schema = schema[part]
    named = next((key for key, words in _WORDS.items() if key in schema and any(word in why for word in words)), None)
    return path if named is None else (*path, named)


_WORDS = {
    "pattern": ("regex",),
    "$ref": ("Pointer", "$ref", "anchor"),
    "oneOf": ("oneOf",),
    "type": ("Invalid type", "type must"),
    "multipleOf": ("multiple of",),
    "patternProperties": ("patternProperties", "pattern properties"),
    "required": ("required",),
}
"""Words of llguidance's messages by the keyword that they are about."""

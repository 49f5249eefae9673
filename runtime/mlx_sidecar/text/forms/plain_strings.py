"""Strings that a model writes as they are, without quotes and escapes, and so behind no keyword of ``%json``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

from ...link.forms import Marker, Path
from .lark_text import ANY, SPACE, between_slashes, exactly, literal, loosely, without, without_more_behind
from .refusals import refusal
from .rules import Ref, Rules, lead_of, text_of

_ELSEWHERE = ("$ref", "anyOf", "oneOf", "allOf")
# A part of what each format allows, which is enough of it for every value.
_DAY = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL}){{0,3}}"
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
FORMATS = {
    "date": rf"({_DAY}|[0-9]{{4}}-(0[13-9]|1[0-2])-(29|30)|[0-9]{{4}}-(0[13578]|1[02])-31)",
    "time": _TIME,
    "date-time": rf"{_DAY}T{_TIME}",
    "duration": r"P([0-9]+W|[0-9]+D(T[0-9]+[HMS])?|[0-9]+Y([0-9]+M)?|[0-9]+M([0-9]+D)?|T[0-9]+(H([0-9]+M)?|M|S))",
    "email": rf"[a-zA-Z0-9_+-]+(\.[a-zA-Z0-9_+-]+)*@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"{_OCTET}(\.{_OCTET}){{3}}",
    "ipv6": r"([0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}|[0-9a-f]{1,4}(:[0-9a-f]{1,4}){0,3}::[0-9a-f]{1,4}|::1)",
    "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "uri": rf"[a-z][a-z0-9+.-]{{1,30}}://{_HOST}(:[0-9]{{1,4}})?(/[a-zA-Z0-9._~-]*)*"
    r"(\?[a-zA-Z0-9._~=&-]*)?(#[a-zA-Z0-9._~-]*)?",
}


def string_up_to(rules: Rules, closing: Marker, schema: dict[str, Any], place: Path) -> Ref:
    """A string under ``schema``, which stands at ``place``, up to ``closing``, and that marker.

    The white space at the ends of ``closing`` is the model's to write or not, where the schema says nothing of the
    string. Raises InvalidParams for what it cannot be held to.
    """
    wanted = patterns(schema, place)
    if (values := strings_of(schema)) is not None:
        return rules.sequence(_one_of(rules, closing, values, wanted, place), closing)
    if not wanted:
        return rules.up_to(closing)
    lead, rest = lead_of(closing)
    held_to = [between_slashes(f"({pattern}){exactly(lead)}") for pattern in wanted]
    # A parser may take white space at the ends for that around markers.
    edges = [f"~{between_slashes(f'{SPACE}{ANY}')}", f"~{between_slashes(f'{ANY}{SPACE}{exactly(lead)}')}"]
    spelled = loosely(text_of(closing))
    ended = without(spelled) if rest else without_more_behind(spelled)
    string = rules.terminal(*held_to, *edges, ended)
    return rules.sequence(string, rest)


def patterns(schema: dict[str, Any], place: Path) -> list[str]:
    """Regular expressions that match a string as a whole if ``schema`` allows it; all of them must."""
    for keyword in _ELSEWHERE:
        if keyword in schema:
            _refuse(
                place, keyword, f"a string that models of this format write without quotes is not held to {keyword}"
            )
    found: list[str] = []
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least or most is not None:
        found.append(rf"(.|\n){{{least},{'' if most is None else most}}}")
    if (pattern := schema.get("pattern")) is not None:
        found.append("|".join(_whole(part) for part in _alternatives(pattern)))
    if (format_ := schema.get("format")) is not None:
        found.append(FORMATS[format_])
    return found


def strings_of(schema: dict[str, Any]) -> list[str] | None:
    """The strings among the values that ``enum`` or ``const`` of ``schema`` allows; None if it has neither."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return None if values is None else [value for value in values if isinstance(value, str)]


def _one_of(rules: Rules, closing: Marker, values: list[str], wanted: list[str], place: Path) -> Ref:
    marker = text_of(closing).strip()
    for value in values:
        if marker in value or value != value.strip() or not value:
            _refuse(place, "enum", f"{value[:64]!r} cannot be written without quotes, as models of this format do")
    alternatives = " | ".join(map(literal, values))
    return rules.terminal(*([f"({alternatives})", *map(between_slashes, wanted)] if wanted else [alternatives]))


def _refuse(place: Path, keyword: str, why: str) -> NoReturn:
    raise refusal([*place, keyword], why)


def _whole(pattern: str) -> str:
    """A part of a pattern that is searched for in a string, as one that matches the whole string."""
    start, body = ("", pattern[1:]) if pattern.startswith("^") else (ANY, pattern)
    anchored = re.search(r"(?<!\\)(\\\\)*\$$", body) is not None
    return f"{start}({body[:-1]})" if anchored else f"{start}({body}){ANY}"


def _alternatives(pattern: str) -> Iterator[str]:
    """The parts of ``pattern`` between bars that are in no group."""
    start = at = depth = 0
    in_class = False
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and depth == 0:
            yield pattern[start:at]
            start = at + 1
        at += 1
    yield pattern[start:]

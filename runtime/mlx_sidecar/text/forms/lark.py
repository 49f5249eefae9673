"""Checks a host's grammar in Lark syntax: it may describe text, and nothing beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from .refusals import refusal
from .schemas import OPTIONS, check_keywords, with_whitespace

PLACE = ("response_format", "grammar")

_PART = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\\n])*"i?)
    |(?P<comment>(?://|\#)[^\n]*)
    |(?P<regex>/(?:\\.|[^/\\\n])+/[a-z]*)
    |(?P<json>%json\b\s*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_REFUSED = (
    (re.compile(r"<[^>\n]{0,64}>?"), "a grammar may not refer to special tokens, which are the model's own"),
    (re.compile(r"@\w*"), "there is no other grammar to refer to"),
    (re.compile(r"%llguidance\s*\{\s*[^}\s]"), "options of llguidance are not the host's to set"),
    (re.compile(r"\b(temperature|max_tokens|stop|stop_capture)\s*="), "an answer is not held to this attribute"),
)


def checked_lark(grammar: str) -> str:
    """``grammar`` with white space bounded in the schemas it holds.

    Raises InvalidParams naming ``response_format.grammar`` for what is no description of text: special tokens, which
    would let a host's user write control tokens, and options.
    """
    written, code = "", ""
    for part, is_code in _parts(grammar):
        written += part
        code += part if is_code else " "
    for pattern, why in _REFUSED:
        if (found := pattern.search(code)) is not None:
            raise refusal(PLACE, f"{found[0]}: {why}")
    return written


def _parts(grammar: str) -> Iterator[tuple[str, bool]]:
    """Pieces of the grammar, each with whether it is code: neither comment nor literal."""
    at = 0
    while (found := _PART.match(grammar, at)) is not None:
        at = found.end()
        if found.lastgroup == "json":
            schema, at = _inline_schema(grammar, at)
            yield found[0] + schema, False
        else:
            yield found[0], found.lastgroup == "other"


def _inline_schema(grammar: str, at: int) -> tuple[str, int]:
    """The schema behind ``%json`` as it will stand there, and the place behind it."""
    try:
        schema, end = json.JSONDecoder().raw_decode(grammar, at)
    except (ValueError, RecursionError) as broken:
        raise refusal(PLACE, f"no JSON follows %json: {broken}") from None
    if not isinstance(schema, dict):
        raise refusal(PLACE, "an object must follow %json")
    if OPTIONS in schema:
        raise refusal(PLACE, f"{OPTIONS}: options of llguidance are not the host's to set")
    check_keywords(schema, PLACE)
    return json.dumps(with_whitespace(schema, fixed=False), ensure_ascii=False), end

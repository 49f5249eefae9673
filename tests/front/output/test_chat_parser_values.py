"""Arguments of any kind come back as they were, whatever the format and the pieces."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlx_sidecar.front.output.formats.table import tool_format
from mlx_sidecar.front.output.formats.tool_format import Bare, Parameters
from tests.support.parsed import formats, parsed
from tests.support.tool_texts import RENDERERS, Call, format_name

MARKERS = sorted({token for form in map(tool_format, map(format_name, RENDERERS)) if form for token in form.tokens})
NAMES = st.from_regex(r"[a-z][a-z_]{0,7}", fullmatch=True)
ODD = [
    "null",
    "007",
    "True",
    "[1]",
    '"',
    "'",
    "\\",
    "\\d",
    "\n",
    "}",
    "{",
    ")",
    "(",
    ",",
    "=",
    " ",
    "</",
    "🙂",
    "é",
    "\t",
]
CLOSINGS = ["</parameter>", "</function>", "</arg_value>", "</param>", "]]>", '<|"|>', "<escape>", "<arg_key>", "\n```"]
STRINGS = st.text(max_size=12) | st.lists(st.sampled_from(ODD + MARKERS + CLOSINGS), max_size=5).map("".join)
INTEGERS = st.integers(-(2**70), 2**70)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "string": STRINGS,
    "integer": INTEGERS,
    "number": INTEGERS | FLOATS,
    "boolean": st.booleans(),
    "null": st.none(),
    "array": st.lists(VALUES, max_size=3),
    "object": st.dictionaries(NAMES, VALUES, max_size=3),
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[Call]]:
    """Tools, and calls of them."""
    tools, calls = [], list[Call]()
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        types = draw(st.dictionaries(NAMES, st.sampled_from(sorted(OF_TYPE)), max_size=4))
        tools.append({"name": name, "parameters": {"properties": {key: {"type": of} for key, of in types.items()}}})
        calls.append((name, {key: draw(OF_TYPE[of]) for key, of in types.items()}))
    return tools, calls


def strings(value: Any) -> list[str]:
    match value:
        case dict():
            return [text for of in value.values() for text in strings(of)]
        case list():
            return [text for of in value for text in strings(of)]
        case str():
            return [value]
        case _:
            return []


def ambiguous(renderer: str, calls: list[Call]) -> bool:
    """Whether a string holds the very text that ends one in this format, so that no reader could tell."""
    form = tool_format(format_name(renderer))
    assert form is not None
    match form.body:
        case Parameters(open=begin, close=close):
            behind = "|".join(map(re.escape, (begin.strip(), form.close.split("\n")[0] or form.close.split("\n")[1])))
            end = rf"{re.escape(close.strip())}\s*(?:{behind})|\]\]>\s*{re.escape(close.strip())}"
        case Bare(quote=quote):
            end = rf"{re.escape(quote)}\s*[,}}\]]"
        case _:
            return False
    return any(re.search(end, text) for _, given_ in calls for text in strings(given_))


@pytest.mark.parametrize("renderer", RENDERERS)
@settings(max_examples=25)
@given(request=requests(), data=st.data())
def test_values_and_types_come_back(
    renderer: str, request: tuple[list[dict[str, Any]], list[Call]], data: st.DataObject
) -> None:
    tools, calls = request
    assume(not ambiguous(renderer, calls))
    answer = RENDERERS[renderer](calls)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(answer)), max_size=12)) | {0, len(answer)})
    told = parsed(formats(format_name(renderer)), tools, [answer[begin:end] for begin, end in pairwise(cuts)])
    assert repr(told.calls) == repr(calls)
    assert told.text == ""
    assert told.outcome.error is None

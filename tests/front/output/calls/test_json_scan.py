"""A scan takes the texts that are JSON and no others, in whatever pieces they come."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlx_sidecar.front.output.calls.json_scan import MAX_DEPTH, JsonScan
from tests.support.strategies import JSON

ALMOST = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", ",", ":", '"', "a", "\\", "u", "00e9", "1", "-", ".", "e", "0", "true", "null", " "]
    ),
    max_size=9,
).map("".join)


def scanned(pieces: list[str]) -> JsonScan:
    scan = JsonScan()
    for piece in [*pieces, " "]:  # the space ends a number
        at = scan.scan(piece, 0)
        if scan.error is None and piece[at:].strip(" \t\r\n"):
            scan.error = "more behind the value"
    return scan


def is_json(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


@given(JSON.map(json.dumps) | ALMOST, st.integers(0, 30))
@example('{"a":[1,{}],"b":"\\u00e9"}', 9)
@example("-", 1)
def test_a_text_is_taken_if_it_is_json(text: str, cut: int) -> None:
    scan = scanned([text[:cut], text[cut:]])
    assert (scan.done and scan.error is None) == is_json(text)


@given(JSON.map(json.dumps))
def test_no_beginning_of_json_is_refused_or_whole(text: str) -> None:
    for end in range(len(text)):
        scan = JsonScan()
        assert scan.scan(text[:end], 0) == end
        assert scan.error is None
        assert not scan.done


@pytest.mark.parametrize(
    ("text", "at"), [('{"a": 1,}', 8), ("[1 2]", 3), ('"\\x"', 2), ('"\n"', 1), ("[01]", 3), ("nul ", 3)]
)
def test_the_error_stands_where_the_text_stops_being_json(text: str, at: int) -> None:
    scan = JsonScan()
    assert scan.scan(text, 0) == at
    assert scan.error


def test_nesting_is_bounded() -> None:
    assert scanned(["[" * MAX_DEPTH + "]" * MAX_DEPTH]).error is None
    assert scanned(["[" * (MAX_DEPTH + 1)]).error == f"not JSON: nested deeper than {MAX_DEPTH}"

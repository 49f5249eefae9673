"""Calls in every format of the table, however the answer comes in pieces and wherever it ends."""

from __future__ import annotations

import pytest

from mlx_sidecar.front.channels import TEXT
from mlx_sidecar.front.output.chat_parser import ChatParser
from mlx_sidecar.front.output.formats.table import TOOL_FORMATS
from tests.support.parsed import THINK, Parsed, formats, parsed, splits
from tests.support.tool_texts import RENDERERS, Call, format_name, reasoning

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_w",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "n": {"type": "integer"},
                    "o": {"type": "object"},
                    "b": {"type": "boolean"},
                    "f": {"type": ["number", "null"]},
                },
            },
        },
    },
    {"name": "other", "parameters": {"properties": {"x": {"type": "string"}}}},
]
CALLS: list[Call] = [
    ("get_w", {"city": 'Pa"ris\n<b> \\ 🙂', "n": -5, "o": {"a": [1, True, None, "x"]}, "b": True, "f": None}),
    ("other", {}),
    ("other", {"x": "null"}),
]

every_format = pytest.mark.parametrize("renderer", RENDERERS)


def same(one: Parsed, other: Parsed) -> bool:
    """Whether two ways of cutting an answer gave the same, up to the tokens: those are the pieces."""
    return one.channels == other.channels and one.heads == other.heads and one[2].calls == other[2].calls


def test_the_renderers_write_every_format() -> None:
    assert {format_name(renderer) for renderer in RENDERERS} == {form.name for form in TOOL_FORMATS}


@every_format
def test_calls_are_read_with_their_types(renderer: str) -> None:
    told = parsed(formats(format_name(renderer)), TOOLS, [RENDERERS[renderer](CALLS)])
    assert told.calls == CALLS
    assert repr(told.calls) == repr(CALLS)
    assert (told.text, told.outcome.error, told.outcome.unfinished) == ("", None, ())


@every_format
def test_every_split_gives_the_same(renderer: str) -> None:
    of, answer = formats(format_name(renderer), THINK), reasoning(renderer, "Hm.") + RENDERERS[renderer](CALLS)
    whole = parsed(of, TOOLS, [answer])
    assert whole.calls == CALLS
    assert (whole.text, whole.reasoning) == ("", "Hm.")
    assert same(parsed(of, TOOLS, answer), whole)
    assert all(same(parsed(of, TOOLS, pieces), whole) for pieces in splits(answer))


@every_format
def test_a_prefix_has_no_call_that_is_not_whole_and_no_marker_in_its_text(renderer: str) -> None:
    of, answer = formats(format_name(renderer)), RENDERERS[renderer](CALLS)
    for end in range(len(answer)):
        told = parsed(of, TOOLS, [answer[:end]], cut=True)
        assert told.calls == CALLS[: len(told.calls)]
        assert told.outcome.error is None
        if told.text:  # of a marker, or of a call that nothing announces, the beginning is given back
            beginning = told.text.strip()
            assert not told.calls or len(beginning) < len(RENDERERS[renderer](CALLS[:1]))
            assert beginning in answer


@every_format
def test_a_turn_that_ends_in_a_call_says_so(renderer: str) -> None:
    of, answer = formats(format_name(renderer)), RENDERERS[renderer](CALLS)
    for end in range(len(answer)):
        told = parsed(of, TOOLS, [answer[:end]], cut=False)
        assert told.calls == CALLS[: len(told.calls)]
        assert bool(told.outcome.unfinished) == (told.outcome.error is not None)


@every_format
def test_brackets_in_an_answer_are_text_and_no_error(renderer: str) -> None:
    answer = "If a < b, <i>x</i> [1] is f(x) = {y}; [2].\n< | end >"
    told = parsed(formats(format_name(renderer)), TOOLS, answer)
    assert told.channels == {TEXT: answer}
    assert told.outcome.error is None


@every_format
def test_the_first_of_the_arguments_is_told_while_their_first_string_comes(renderer: str) -> None:
    answer = RENDERERS[renderer](CALLS)
    parser = ChatParser(formats(format_name(renderer)), TOOLS)
    [head] = [segment.head for segment in parser.push(answer[: answer.index("Pa") + 2], [0]) if segment.head]
    assert head.name == "get_w"

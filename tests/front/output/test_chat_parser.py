"""Text and reasoning of parsed answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mlx_sidecar.front.channels import REASONING, TEXT
from mlx_sidecar.front.output.chat_parser import ChatParser
from mlx_sidecar.front.output.formats.table import REASONING_FORMATS
from mlx_sidecar.front.output.formats.tool_format import ReasoningFormat
from tests.support.parsed import THINK, Parsed, formats, parsed

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}}]
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "x"}}\n</tool_call>'


def hermes(answer: str | Sequence[str], *, cut: bool = False, thinking: bool = False) -> Parsed:
    return parsed(formats("hermes", THINK), TOOLS, answer, cut=cut, thinking=thinking)


# Text.


def test_an_answer_without_markers_is_text() -> None:
    assert hermes("  Nothing <b>to</b> call.\n").channels == {TEXT: "  Nothing <b>to</b> call.\n"}


def test_white_space_before_a_call_and_behind_the_last_one_is_left_out() -> None:
    told = hermes(f"One.\n\n{CALL}\n two \n{CALL}\n\n")
    assert told.text == "One.\n two"
    assert told.calls == [("f", {"a": "x"})] * 2


def test_a_marker_that_turns_out_to_be_none_is_text() -> None:
    assert hermes("a <tool_cal> b <tool_ca").text == "a <tool_cal> b <tool_ca"


def test_text_is_held_back_only_while_it_may_be_a_marker() -> None:
    parser = ChatParser(formats(), TOOLS)
    told = [[segment.text for segment in parser.push(piece, [0])] for piece in ("a <", "tool", "s>", " ", "b")]
    assert told == [["a"], [], [" <tools>"], [], [" b"]]


def test_without_tools_a_call_is_text() -> None:
    assert parsed(formats(), [], [f"Look: {CALL}"]).text == f"Look: {CALL}"


def test_without_a_format_a_call_is_text() -> None:
    assert parsed(formats(None), TOOLS, [f"Look: {CALL}"]).text == f"Look: {CALL}"


# Reasoning.


def test_reasoning_stands_at_the_beginning_and_the_space_behind_it_is_left_out() -> None:
    told = hermes(" \n<think>\nHm.\n</think>\n\nYes.")
    assert told.channels == {REASONING: "\nHm.\n", TEXT: "Yes."}
    assert told.outcome.reasoning_tokens == len("\nHm.\n")


def test_no_more_than_four_characters_are_left_out_behind_reasoning() -> None:
    assert hermes("<think>Hm.</think>\n\n    indented").text == "  indented"


def test_reasoning_that_the_prompt_opened_needs_no_marker() -> None:
    told = hermes("Hm.</think>Yes.", thinking=True)
    assert told.channels == {REASONING: "Hm.", TEXT: "Yes."}
    assert told.outcome.reasoning_tokens == 3


@pytest.mark.parametrize("answer", ["<think>\n\n</think>\n\nYes.", "</think>\n\nYes."])
def test_empty_reasoning_is_none(answer: str) -> None:
    assert hermes(answer).channels == {TEXT: "Yes."}


@pytest.mark.parametrize("answer", ["Yes. <think>Hm.</think>", "Yes.</think>"])
def test_markers_of_reasoning_behind_other_text_are_text(answer: str) -> None:
    assert hermes(answer).channels == {TEXT: answer}
    assert hermes(answer).outcome.reasoning_tokens == 0


def test_a_call_within_reasoning_is_reasoning() -> None:
    told = hermes(f"<think>I could {CALL}.</think>{CALL}")
    assert told.reasoning == f"I could {CALL}."
    assert told.calls == [("f", {"a": "x"})]


def test_a_call_that_begins_within_reasoning_and_never_ends_stays_reasoning() -> None:
    told = hermes("<think>So <tool_call>", cut=True)
    assert told.channels == {REASONING: "So <tool_call>"}
    assert not told.outcome.unfinished


def test_reasoning_that_is_cut_off_is_reasoning_with_the_beginning_of_its_end() -> None:
    told = hermes("<think>Hm.</thi", cut=True)
    assert told.channels == {REASONING: "Hm.</thi"}
    assert told.outcome.reasoning_tokens == len("Hm.</thi")


@pytest.mark.parametrize(
    ("pieces", "tokens"),
    [
        (["<think>", "a", "b", "</think>", "c"], 2),
        (["<th", "ink>", "a", " </", "think>c"], 1),
        (["<think>", "a", " </", "thin", "g", "</think>"], 4),
        (["<think>a", "b</think>"], 0),
        (["<think>", "", "é", "</think>"], 2),
        (["<think>", "a", "</", "th"], 3),
        (["text"], 0),
    ],
)
def test_the_tokens_of_reasoning_are_those_between_its_markers(pieces: list[str], tokens: int) -> None:
    assert hermes(pieces).outcome.reasoning_tokens == tokens


def test_tokens_come_one_by_one_until_reasoning_has_ended() -> None:
    parser = ChatParser(formats("hermes", THINK), TOOLS)
    told = []
    for piece in ("<think>", "a", "</think>", "b"):
        parser.push(piece, [0])
        told.append(parser.one_by_one)
    assert told == [True, True, True, False]
    assert not ChatParser(formats(), TOOLS).one_by_one


@pytest.mark.parametrize("marks", REASONING_FORMATS)
def test_every_kind_of_reasoning_is_told(marks: ReasoningFormat) -> None:
    told = parsed(formats(None, marks), [], f"{marks.begin}Hm.{marks.end}\n\nYes.")
    assert told.channels == {REASONING: "Hm.", TEXT: "Yes."}

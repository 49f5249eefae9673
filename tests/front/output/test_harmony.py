"""Answers in harmony: messages whose headers say whether they are reasoning, text or a call."""

from __future__ import annotations

import pytest

from mlx_sidecar.front.channels import REASONING, TEXT
from mlx_sidecar.front.output.chat_parser import ChatParser
from mlx_sidecar.front.output.parser import Unfinished
from tests.support.parsed import Parsed, formats, parsed, splits

TOOLS = [{"type": "function", "function": {"name": "f"}}]
ANALYSIS = "<|channel|>analysis<|message|>Hm.<|end|>"
PREAMBLE = "<|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
CALL = '<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{"a": 1}<|call|>'
FINAL = "<|start|>assistant<|channel|>final<|message|>Done.<|return|>"


def harmony(answer: str | tuple[str, ...], *, cut: bool = False, tools: bool = True) -> Parsed:
    return parsed(formats("harmony"), TOOLS if tools else [], answer, cut=cut)


def test_messages_are_reasoning_text_or_calls_by_their_headers() -> None:
    answer = ANALYSIS + PREAMBLE + CALL + FINAL
    told = harmony((answer,))
    assert told.channels == {REASONING: "Hm.", TEXT: "I look.Done.", 0: '{"a": 1}'}
    assert told.calls == [("f", {"a": 1})]
    assert all(harmony(pieces).channels == told.channels for pieces in splits(answer))


def test_an_answer_may_begin_with_any_channel() -> None:
    assert harmony("<|channel|>final<|message|>Done.<|return|>").channels == {TEXT: "Done."}
    assert harmony('<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}').calls == [
        ("f", {"a": 1})
    ]


def test_without_headers_an_answer_is_text() -> None:
    assert harmony("to be or <not> to be").channels == {TEXT: "to be or <not> to be"}


def test_without_tools_a_message_to_a_function_is_text() -> None:
    assert harmony(ANALYSIS + CALL, tools=False).channels == {REASONING: "Hm.", TEXT: '{"a": 1}'}


def test_reasoning_is_counted_in_each_analysis() -> None:
    header = ["<|channel|>", "analysis", "<|message|>"]
    pieces = [*header, "a", "b", "<|end|>", "<|start|>", "assistant", *header, "c", "<|end|>"]
    told = parsed(formats("harmony"), TOOLS, pieces)
    assert told.reasoning == "abc"
    assert told.outcome.reasoning_tokens == 3


def test_tokens_come_one_by_one_to_the_end() -> None:
    parser = ChatParser(formats("harmony"), TOOLS)
    parser.push("<|channel|>final<|message|>Done.", [0])
    assert parser.one_by_one


@pytest.mark.parametrize("end", range(1, len(CALL)))
def test_a_call_that_is_cut_off_is_in_no_text(end: int) -> None:
    told = harmony(ANALYSIS + CALL[:end], cut=True)
    assert told.calls == []
    assert told.text == CALL[:end] if end < len("<|start|>") else not told.text


def test_a_call_that_stops_being_json_is_unfinished_and_the_rest_is_read_on() -> None:
    call = CALL.replace("1}", "x}")
    told = harmony(call + FINAL)
    assert told.outcome.unfinished == (Unfinished(call.removesuffix("<|call|>") + "<|call|>", 0),)
    assert told.outcome.error
    assert told.text == "Done."


def test_a_call_whose_arguments_are_no_object_is_text_with_an_error() -> None:
    answer = "<|start|>assistant to=functions.f<|channel|>commentary<|message|>print(1)<|call|>"
    told = harmony(answer)
    assert told.outcome.error == "its arguments are no JSON object"
    assert told.text.startswith(answer.partition("print")[0])

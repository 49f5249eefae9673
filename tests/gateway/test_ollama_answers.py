"""Answers of Ollama's chat and generate, read by Ollama's own types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from ollama import ChatResponse, GenerateResponse

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_gateway.surfaces.events import Delta, Reasoning, Text, ToolArguments, ToolStart
from mlx_sidecar_gateway.surfaces.faults import Fault
from mlx_sidecar_gateway.surfaces.ollama.answer import Answer, ChatAnswer, GenerateAnswer, LineEncoder
from mlx_sidecar_gateway.surfaces.ollama.faults import body_of
from tests.gateway.answers import TEXT_LOGPROB, answers, result

CHAT, GENERATE = ChatAnswer("m", 1_700_000_000), GenerateAnswer("m", 1_700_000_000)


def streamed(answer: Answer, events: Sequence[Delta], ending: GenerateResult) -> list[dict[str, Any]]:
    encoder = LineEncoder(answer)
    lines = b"".join([*map(encoder.delta, events), encoder.end(ending)]).split(b"\n")
    assert lines.pop() == b""
    return [json.loads(line) for line in lines]


@given(answers())
def test_the_lines_of_a_chat_add_up_to_the_whole_answer(answer: tuple[list[Delta], GenerateResult]) -> None:
    *pieces, last = [ChatResponse.model_validate(line) for line in streamed(CHAT, *answer)]
    whole = ChatResponse.model_validate_json(CHAT.whole(answer[1]))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert "".join(piece.message.thinking or "" for piece in pieces) == (whole.message.thinking or "")
    calls = [call for piece in pieces for call in piece.message.tool_calls or ()]
    assert calls == list(whole.message.tool_calls or ())
    assert not any(piece.done for piece in pieces)
    assert last.model_copy(update={"message": whole.message}) == whole


@given(answers())
def test_the_lines_of_generate_add_up_to_the_whole_answer(answer: tuple[list[Delta], GenerateResult]) -> None:
    *pieces, last = [GenerateResponse.model_validate(line) for line in streamed(GENERATE, *answer)]
    whole = GenerateResponse.model_validate_json(GENERATE.whole(answer[1]))
    assert "".join(piece.response or "" for piece in pieces) == whole.response
    assert "".join(piece.thinking or "" for piece in pieces) == (whole.thinking or "")
    assert (last.done, last.done_reason, last.eval_count) == (True, whole.done_reason, whole.eval_count)


def test_a_call_is_told_when_it_is_whole() -> None:
    encoder = LineEncoder(CHAT)
    assert encoder.delta(ToolStart(0, "x", "f")) == encoder.delta(ToolArguments(0, '{"a":')) == b""
    ending = result("tool_calls", tool_calls=[{"id": "x", "name": "f", "arguments": '{"a": 1}'}])
    called, last = [json.loads(line) for line in encoder.end(ending).splitlines()]
    call = {"id": "x", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
    assert called["message"] == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert (called["done"], last["done"], last["done_reason"]) == (False, True, "stop")


def test_durations_are_nanoseconds_and_the_prompt_is_counted_whole() -> None:
    last = streamed(CHAT, [], result("length"))[-1]
    assert {name: value for name, value in last.items() if name.endswith(("duration", "count"))} == {
        "total_duration": 3_750_000_000,
        "load_duration": 500_000_000,
        "prompt_eval_count": 9,
        "prompt_eval_duration": 1_000_000_000,
        "eval_count": 5,
        "eval_duration": 2_000_000_000,
    }
    assert last["done_reason"] == "length"


@pytest.mark.parametrize("answer", [CHAT, GENERATE])
def test_log_probabilities_come_with_their_text(answer: Answer) -> None:
    (piece, _) = streamed(answer, [Text("é", [TEXT_LOGPROB])], result())
    infinite = {"token": 8, "text": "e", "logprob": float("-inf")}
    whole = json.loads(answer.whole(result(logprobs=[{**TEXT_LOGPROB, "top": [infinite]}])))
    alternative = {"token": "e", "logprob": -9999.0, "bytes": [101]}
    told = {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": [alternative]}
    assert piece["logprobs"] == whole["logprobs"] == [told]


@pytest.mark.parametrize("answer", [CHAT, GENERATE])
def test_a_ping_is_a_line_that_says_nothing(answer: Answer) -> None:
    ping = json.loads(LineEncoder(answer).ping())
    assert ping["done"] is False
    assert (ping["message"]["content"] if answer is CHAT else ping["response"]) == ""


def test_a_request_without_a_prompt_is_answered_by_a_last_line_alone() -> None:
    assert ChatResponse.model_validate_json(CHAT.without_text("load")).done_reason == "load"
    assert GenerateResponse.model_validate_json(GENERATE.without_text("unload")).response == ""


def test_an_error_is_a_line_with_the_reason() -> None:
    fault = Fault(500, "poison_request", "because")
    line = LineEncoder(CHAT).error(fault)
    assert line == body_of(fault) + b"\n"
    assert json.loads(line) == {"error": "because", "kind": "poison_request"}


def test_reasoning_is_told_as_thinking() -> None:
    (piece, _) = streamed(CHAT, [Reasoning("Hm.")], result())
    assert piece["message"] == {"role": "assistant", "content": "", "thinking": "Hm."}

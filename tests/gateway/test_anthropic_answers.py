"""Answers of Anthropic's Messages, read by Anthropic's own code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message
from hypothesis import given

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_gateway.surfaces.anthropic.answer import Asked, MessageEncoder
from mlx_sidecar_gateway.surfaces.anthropic.faults import body_of
from mlx_sidecar_gateway.surfaces.events import Delta, Reasoning, Text, ToolArguments, ToolStart
from mlx_sidecar_gateway.surfaces.faults import Fault
from tests.gateway.answers import answers, result

ASKED = Asked("1" * 32, "m", max_tokens=5)


def streamed(events: Sequence[Delta], ending: GenerateResult, asked: Asked = ASKED) -> list[dict[str, Any]]:
    encoder = MessageEncoder(asked)
    return parsed([*map(encoder.delta, events), encoder.end(ending)])


def parsed(parts: Iterable[bytes]) -> list[dict[str, Any]]:
    """The data of events, each of which has its type as its name, too."""
    blocks = b"".join(parts).decode().split("\n\n")
    assert blocks.pop() == ""
    told = []
    for block in blocks:
        name, data = block.split("\n")
        told.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {told[-1]['type']}"
    return told


def read(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that Anthropic's client makes of the events."""
    message, buffers = None, dict[int, bytes]()
    for event in events:
        if event["type"] not in ("ping", "message_stop"):
            message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)  # type: ignore[arg-type]
    assert message is not None
    return message.to_dict()


@given(answers())
def test_a_stream_adds_up_to_the_whole_message(answer: tuple[list[Delta], GenerateResult]) -> None:
    events, ending = answer
    whole = json.loads(ASKED.whole(ending))
    assert Message.model_validate(whole).to_dict() == whole
    told = read(streamed(events, ending))
    assert told["content"] == whole["content"]
    assert {**told, "content": []} == {**whole, "content": []}


@given(answers())
def test_blocks_open_and_close_one_after_the_other(answer: tuple[list[Delta], GenerateResult]) -> None:
    told = streamed(*answer)
    assert [event["type"] for event in told[:1] + told[-2:]] == ["message_start", "message_delta", "message_stop"]
    open_block, number = None, 0
    for event in told[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert open_block is None
                assert event["index"] == number
                open_block, number = number, number + 1
            case "content_block_delta":
                assert event["index"] == open_block
            case other:
                assert other == "content_block_stop"
                assert event["index"] == open_block
                open_block = None
    assert open_block is None


def test_text_behind_a_call_is_a_block_of_its_own() -> None:
    events: list[Delta] = [
        Text("a"),
        ToolStart(0, "x", "f"),
        ToolArguments(0, "{}"),
        Text("b"),
        Reasoning("c"),
        Text("d"),
    ]
    told = read(streamed(events, result("stop")))
    assert [block["type"] for block in told["content"]] == ["text", "tool_use", "text", "thinking", "text"]


def test_a_ping_before_the_first_delta_begins_the_message() -> None:
    encoder = MessageEncoder(ASKED)
    told = parsed([encoder.ping(), encoder.ping(), encoder.delta(Text("a"))])
    assert [event["type"] for event in told[:4]] == ["message_start", "ping", "ping", "content_block_start"]


def test_thinking_that_is_to_be_omitted_is_a_block_without_text() -> None:
    asked = Asked("1" * 32, "m", 5, omits=True)
    ending = result("stop", reasoning="secret", text="a")
    told = streamed([Reasoning("sec"), Reasoning("ret"), Text("a")], ending, asked)
    assert "sec" not in json.dumps(told)
    assert read(told)["content"] == json.loads(asked.whole(ending))["content"]
    assert read(told)["content"][0] == {"type": "thinking", "thinking": "", "signature": ""}


@pytest.mark.parametrize(
    ("reason", "sequence", "ending"),
    [
        ("end_turn", None, result("stop")),
        ("stop_sequence", "END", result("stop", stop_match="END")),
        ("max_tokens", None, result("length")),
        ("model_context_window_exceeded", None, result("length", tokens=(9, 0, 3))),
        ("tool_use", None, result("tool_calls", tool_calls=[{"id": "x", "name": "f", "arguments": "{}"}])),
    ],
)
def test_the_reason_for_the_end_has_anthropics_name(reason: str, sequence: str | None, ending: GenerateResult) -> None:
    told = streamed([], ending)[-2]["delta"]
    assert told == {"stop_reason": reason, "stop_sequence": sequence}
    whole = json.loads(ASKED.whole(ending))
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, sequence)


def test_arguments_are_those_that_the_model_wrote_whatever_numbers_and_texts_they_hold() -> None:
    arguments = '{"n": 123456789012345678901234567890, "s": "\\ud800"}'
    whole = ASKED.whole(result("tool_calls", tool_calls=[{"id": "x", "name": "f", "arguments": arguments}]))
    assert arguments.encode() in whole


def test_usage_tells_cached_tokens_apart_and_the_prompt_is_their_sum() -> None:
    usage = json.loads(ASKED.whole(result(tokens=(100, 64, 7))))["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (36, 64, 7)
    assert usage["output_tokens_details"] == {"thinking_tokens": 2}


@pytest.mark.parametrize(
    ("type_", "status", "kind"),
    [
        ("invalid_request_error", 400, "invalid_params"),
        ("authentication_error", 401, "unauthorized"),
        ("permission_error", 403, "host_refused"),
        ("not_found_error", 404, "model_not_found"),
        ("request_too_large", 413, "body_too_long"),
        ("api_error", 500, "poison_request"),
        ("overloaded_error", 503, "overloaded"),
        ("timeout_error", 504, "deadline_passed"),
    ],
)
def test_an_error_has_anthropics_type_in_a_body_and_in_an_event(type_: str, status: int, kind: str) -> None:
    fault = Fault(status, kind, "because", param="max_tokens")
    body = json.loads(body_of(fault))
    assert body == {
        "type": "error",
        "error": {"type": type_, "message": "because", "kind": kind, "param": "max_tokens"},
    }
    assert parsed([MessageEncoder(ASKED).error(fault)]) == [body]

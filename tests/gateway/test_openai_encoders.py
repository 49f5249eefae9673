"""Chunks of an answer put together are the answer, however it was cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_gateway.surfaces.events import Delta, Reasoning, Text, ToolArguments, ToolStart, events_of
from mlx_sidecar_gateway.surfaces.faults import Fault
from mlx_sidecar_gateway.surfaces.openai import chat, completions
from mlx_sidecar_gateway.surfaces.openai.errors import error_of
from mlx_sidecar_gateway.surfaces.surface import Encoder, Generation, Question

texts = st.text(min_size=1, max_size=20)
pieces = st.lists(
    st.one_of(
        st.builds(Text, texts),
        st.builds(Reasoning, texts),
        st.tuples(texts, st.lists(texts, max_size=3)),
    ),
    max_size=12,
)
RESULT: dict[str, Any] = {
    "finish_reason": "stop",
    "usage": {
        "prompt_tokens": 7,
        "cached_tokens": 3,
        "cached_by_tier": {"ram": 3, "disk": 0},
        "completion_tokens": 5,
        "reasoning_tokens": 2,
    },
    "timing": {"queue_s": 0.0},
    "seed": 1,
}
FAULT = Fault(503, "engine_lost", "it is gone", retryable=True)


def generation(read: Callable[[Question], Generation], **body: Any) -> Generation:
    shared: dict[str, Any] = {"messages": []} if read is chat.read else {"prompt": "p"}
    return read(Question(id="0" * 32, unix_s=1, model="m", body={"model": "m", "stream": True, **shared, **body}))


def result(**members: Any) -> GenerateResult:
    return GenerateResult.model_validate({**RESULT, **members})


def events(data: bytes) -> list[str]:
    assert data.endswith(b"\n\n") or not data
    return [line.removeprefix("data: ") for line in data.decode().split("\n\n")[:-1] if line != ": ping"]


def run(encoder: Encoder, deltas: list[Delta], end: bytes) -> list[str]:
    return events(b"".join([part for delta in deltas for part in (encoder.delta(delta), encoder.ping())]) + end)


def flattened(cut: list[Any]) -> list[Delta]:
    """Calls are drawn as a name and fragments of arguments, and get their number by their place."""
    deltas: list[Delta] = []
    calls = 0
    for piece in cut:
        if isinstance(piece, Text | Reasoning):
            deltas.append(piece)
            continue
        name, fragments = piece
        deltas.append(ToolStart(calls, f"call_{calls}", name))
        deltas += [ToolArguments(calls, fragment) for fragment in fragments]
        calls += 1
    return deltas


@given(pieces, st.booleans())
def test_chunks_of_a_chat_add_up(cut: list[Any], with_usage: bool) -> None:
    deltas = flattened(cut)
    encoder = generation(chat.read, stream_options={"include_usage": with_usage}).encoder()
    first = run(encoder, deltas, b"")
    *rest, done = events(encoder.end(result()))
    chunks = [json.loads(event) for event in [*first, *rest]]
    assert done == "[DONE]"
    assert all(("usage" in chunk) == with_usage for chunk in chunks)
    if with_usage:
        last = chunks.pop()
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] == 12
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert [choice["delta"].get("role") for choice in choices] == ["assistant"] + [None] * (len(choices) - 1)
    told = [choice["delta"] for choice in choices]
    assert "".join(d.get("content") or "" for d in told) == "".join(d.text for d in deltas if isinstance(d, Text))
    reasoning = "".join(d.text for d in deltas if isinstance(d, Reasoning))
    assert "".join(d.get("reasoning_content") or "" for d in told) == reasoning
    calls: dict[int, dict[str, str]] = {}
    for call in (call for d in told for call in d.get("tool_calls", ())):
        if "id" in call:
            assert call["index"] == len(calls)
            calls[call["index"]] = {"name": call["function"]["name"], "arguments": ""}
        calls[call["index"]]["arguments"] += call["function"]["arguments"]
    assert list(calls.values()) == [{"name": p[0], "arguments": "".join(p[1])} for p in cut if isinstance(p, tuple)]


@given(pieces)
def test_chunks_of_a_completion_add_up(cut: list[Any]) -> None:
    deltas = flattened(cut)
    encoder = generation(completions.read).encoder()
    *chunks, done = run(encoder, deltas, b"") + events(encoder.end(result(finish_reason="length")))
    assert done == "[DONE]"
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert "".join(choice["text"] for choice in choices) == "".join(d.text for d in deltas if isinstance(d, Text))
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]


@pytest.mark.parametrize("read", [chat.read, completions.read])
@given(deltas=st.lists(st.builds(Text, texts), max_size=5))
def test_an_answer_that_broke_off_ends_in_an_error_and_nothing_else(
    read: Callable[[Question], Generation], deltas: list[Delta]
) -> None:
    encoder = generation(read).encoder()
    *before, last = run(encoder, deltas, encoder.error(FAULT))
    assert json.loads(last)["error"]["code"] == "engine_lost"
    assert "[DONE]" not in before
    assert all(json.loads(event)["choices"][0]["finish_reason"] is None for event in before)


def test_a_whole_chat_has_what_its_stream_has() -> None:
    whole = generation(chat.read).whole(
        result(
            text="",
            reasoning="Hm.",
            tool_calls=[{"id": "call_0", "name": "f", "arguments": "{}"}],
            finish_reason="tool_calls",
        )
    )
    (choice,) = json.loads(whole)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Hm.",
        "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }


def test_minus_infinity_and_broken_characters_have_openais_forms() -> None:
    entry = {"token": 1, "text": "\ufffd", "logprob": None, "top": [{"token": 2, "text": "é", "logprob": -0.5}]}
    encoder = generation(chat.read, logprobs=True).encoder()
    _, chunk = events(encoder.delta(Text("", [entry])))
    (told,) = json.loads(chunk)["choices"][0]["logprobs"]["content"]
    assert (told["logprob"], told["bytes"]) == (-9999.0, None)
    assert told["top_logprobs"] == [{"token": "é", "logprob": -0.5, "bytes": [195, 169]}]


def test_a_delta_of_the_wire_is_events_in_their_order() -> None:
    wire = {"text": "", "tokens": [1], "tool_calls": [{"index": 0, "id": "c", "name": "f", "arguments": "{"}]}
    assert list(events_of(wire)) == [ToolStart(0, "c", "f"), ToolArguments(0, "{")]
    assert list(events_of({"text": "", "reasoning": "Hm", "tokens": [1], "logprobs": [{}]})) == [Reasoning("Hm")]
    assert list(events_of({"text": "", "tokens": [1]})) == []
    assert list(events_of({"text": "a", "tokens": [1]})) == [Text("a")]


def test_a_prompt_that_is_too_long_is_told_with_its_length_and_the_longest_one() -> None:
    fault = Fault(400, "context_too_long", "it is too long", details={"have": 9, "limit": 7, "more": 1})
    assert error_of(fault)["error"] == {
        "message": "it is too long",
        "type": "invalid_request_error",
        "param": None,
        "code": "context_length_exceeded",
        "n_prompt_tokens": 9,
        "n_ctx": 7,
    }

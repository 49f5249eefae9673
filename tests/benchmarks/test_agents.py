"""The recorder of agents' requests tells how each answer ended, and how much of its prompt was cached."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.agents.answers import QUIET, Told, told

CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
MESSAGES_USAGE = {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0}
RESPONSES_USAGE = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 2}


def stream(*values: dict[str, Any] | str) -> bytes:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return "".join(f"event: x\ndata: {text}\n\n" for text in texts).encode()


CHAT: Sequence[dict[str, Any] | str] = [
    {"choices": [{"delta": {"content": "a"}, "finish_reason": None}], "usage": None},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": CHAT_USAGE},
    "[DONE]",
]
MESSAGES: Sequence[dict[str, Any] | str] = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 0, "cache_read_input_tokens": 0}}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": MESSAGES_USAGE},
]
RESPONSES: Sequence[dict[str, Any] | str] = [
    {"type": "response.created", "response": {"object": "response", "status": "in_progress", "error": None}},
    {"type": "response.output_text.delta", "delta": "a"},
    {
        "type": "response.completed",
        "response": {"object": "response", "status": "completed", "error": None, "usage": RESPONSES_USAGE},
    },
]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (stream(*CHAT), Told("stop", 9, 4)),
        (stream(*MESSAGES), Told("end_turn", 9, 4)),
        (stream(*RESPONSES), Told("completed", 9, 4)),
        (stream(*CHAT[:1]), Told(QUIET)),
        (stream(*MESSAGES[:2]), Told(QUIET)),
        (stream(*RESPONSES[:2]), Told(QUIET)),
        (stream(*CHAT[:1], {"error": {"code": "overloaded", "param": None}}), Told("error overloaded")),
        (stream({"type": "error", "error": {"type": "api_error", "kind": "engine_lost"}}), Told("error engine_lost")),
        (b'{"error": {"kind": "invalid_params", "param": "top_p"}}', Told("error invalid_params top_p")),
        (b'{"choices": [{"finish_reason": "length"}]}', Told("length")),
        (b'{"stop_reason": "tool_use", "usage": {"input_tokens": 3}}', Told("tool_use", 3, 0)),
        (b"", Told(QUIET)),
    ],
)
def test_an_ending_and_the_cached_prompt_are_read_from_every_interface(body: bytes, expected: Told) -> None:
    assert told(body) == expected

"""An error that leads into the messages that the sidecar was given names the client's own message or block."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_client.protocol.errors import InvalidParams
from mlx_sidecar_gateway.core.faults import fault_of
from mlx_sidecar_gateway.surfaces.anthropic.messages import ATTRIBUTION
from mlx_sidecar_gateway.surfaces.anthropic.request import prompt_of, way_of
from mlx_sidecar_gateway.surfaces.anthropic.surface import read
from mlx_sidecar_gateway.surfaces.faults import Fault
from mlx_sidecar_gateway.surfaces.surface import Question

USE = {"type": "tool_use", "id": "c1", "name": "look", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "c1", "content": "Nothing."}


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "Look."},
    {"role": "user", "content": [text("There."), text("Now.")]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": ""}, text("I look.")]},
    {"role": "assistant", "content": [USE, {**USE, "id": "c2"}]},
    {"role": "user", "content": [{**RESULT, "tool_use_id": "c2"}, RESULT, text("Again.")]},
]


def question(**body: Any) -> Question:
    return Question("0" * 32, 1, "m", body={"max_tokens": 5, "messages": MESSAGES, **body})


def fault(*way: str | int, **body: Any) -> Fault:
    """The client's fault for an error at ``way`` of what the sidecar is asked for such a request."""
    generation = read(question(**body))
    error = InvalidParams([{"loc": list(way), "msg": "is wrong", "type": "value_error"}])
    return fault_of(error, generation.names, generation.way_of)


# Turns of one role are one message; results of tools are messages of their own.
@pytest.mark.parametrize(
    ("way", "param"),
    [
        (("messages", 0), "messages.0"),
        (("messages", 0, "content"), "messages.0.content"),
        (("messages", 0, "content", 0, "text"), "messages.0.content"),
        (("messages", 0, "content", 1, "text"), "messages.1.content.0.text"),
        (("messages", 0, "content", 2), "messages.1.content.1.text"),
        (("messages", 1, "role"), "messages.2"),
        (("messages", 1, "reasoning_content"), "messages.2.content.0.thinking"),
        (("messages", 1, "content"), "messages.2.content.1.text"),
        (("messages", 1, "tool_calls", 0), "messages.3.content.0"),
        (("messages", 1, "tool_calls", 1, "function", "arguments"), "messages.3.content.1.input"),
        (("messages", 1, "tool_calls", 1, "id"), "messages.3.content.1.id"),
        (("messages", 2, "content"), "messages.4.content.0.content"),
        (("messages", 3, "tool_call_id"), "messages.4.content.1"),
        (("messages", 4), "messages.4"),
        (("messages",), "messages"),
        (("stop",), "stop_sequences"),
    ],
)
def test_an_error_names_the_clients_block(way: tuple[str | int, ...], param: str) -> None:
    found = fault(*way)
    assert (found.param, found.message) == (param, f"{param}: is wrong")


def test_the_system_prompt_is_no_message_of_the_clients() -> None:
    assert fault("messages", 0, "content", system="Be brief.").param == "system"
    assert fault("messages", 1, system="Be brief.").param == "messages.0"
    blocks = [text(f"{ATTRIBUTION} 1"), text("Be brief."), text("Be kind.")]
    assert fault("messages", 0, "content", 1, system=blocks).param == "system.2.text"
    assert fault("messages", 1, system=blocks[:1]).param == "messages.2"  # nothing of it is in the prompt


def test_a_message_that_is_cleared_is_left_out_of_the_count() -> None:
    cleared = {"role": "system", "content": "Soon.", "clear_at": "next_user_message"}
    assert fault("messages", 1, messages=[MESSAGES[0], cleared, *MESSAGES[2:]]).param == "messages.2"


TURNS = st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=8)


@given(TURNS, st.booleans())
def test_each_text_of_the_sidecars_messages_leads_to_where_the_client_said_it(
    roles: list[str], has_system: bool
) -> None:
    said = [{"role": role, "content": f"text {number}"} for number, role in enumerate([*roles, "user"])]
    asked = question(messages=said, **({"system": "text -1"} if has_system else {}))
    places = {f"text {number}": f"messages.{number}.content" for number in range(len(said))} | {"text -1": "system"}
    way = partial(way_of, asked)
    for number, message in enumerate(prompt_of(asked)["messages"]):
        content = message["content"]
        parts = [content] if isinstance(content, str) else [part["text"] for part in content]
        for at, part in enumerate(parts):
            inner = ["content"] if isinstance(content, str) else ["content", str(at), "text"]
            assert way(["messages", str(number), *inner]) == places[part]

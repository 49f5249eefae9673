"""An error that leads into the messages that the sidecar was given names the item of the client's input instead."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_client.protocol.errors import InvalidParams
from mlx_sidecar_gateway.core.faults import fault_of
from mlx_sidecar_gateway.surfaces.faults import Fault
from mlx_sidecar_gateway.surfaces.kept import KeptResponses
from mlx_sidecar_gateway.surfaces.openai.responses.request import read
from mlx_sidecar_gateway.surfaces.surface import Question

ITEMS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Look."},
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
    {"role": "assistant", "content": "I look."},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c2", "output": "Nothing."},
    {"role": "user", "content": "Again."},
]


def fault(*way: str | int, **body: Any) -> Fault:
    """The client's fault for an error at ``way`` of what the sidecar is asked for such a request."""
    question = Question(id="0" * 32, unix_s=1, model="m", body={"input": ITEMS, "store": False, **body})
    generation = read(question)
    assert generation.prepare is not None
    backend: Any = SimpleNamespace(kept=KeptResponses())
    anyio.run(partial(generation.prepare, backend, "m"))
    error = InvalidParams([{"loc": list(way), "msg": "is wrong", "type": "value_error"}])
    return fault_of(error, generation.names, generation.way_of)


# The system message of the input is the first of the chat; reasoning, text and calls behind it are one message.
@pytest.mark.parametrize(
    ("way", "param"),
    [
        (("messages", 0, "content"), "input"),
        (("messages", 1), "input.1"),
        (("messages", 1, "content", 0, "text"), "input.1.content"),
        (("messages", 2, "role"), "input.2"),
        (("messages", 2, "reasoning_content"), "input.2"),
        (("messages", 2, "content"), "input.3.content"),
        (("messages", 2, "tool_calls", 0), "input.4"),
        (("messages", 2, "tool_calls", 1, "function", "arguments"), "input.5.arguments"),
        (("messages", 2, "tool_calls", 1, "id"), "input.5.call_id"),
        (("messages", 3, "content"), "input.6.output"),
        (("messages", 4), "input.7"),
        (("messages",), "input"),
        (("max_tokens",), "max_output_tokens"),
    ],
)
def test_the_item_has_the_number_that_the_client_gave_it(way: tuple[str | int, ...], param: str) -> None:
    told = fault(*way)
    assert (told.param, told.message) == (param, f"{param}: is wrong")


def test_instructions_are_the_clients_name_of_the_message_that_they_are() -> None:
    assert fault("messages", 0, instructions="Be kind.").param == "instructions"
    assert fault("messages", 1, instructions="Be kind.").param == "input.1"


def test_an_input_that_is_one_text_has_no_items() -> None:
    assert fault("messages", 0, "content", input="Hello").param == "input"


said = st.sampled_from(["user", "assistant"]).map(lambda role: {"role": role, "content": "x"})


@given(st.lists(said, min_size=1, max_size=10), st.booleans())
def test_each_message_is_traced_to_the_first_item_of_it(items: list[dict[str, Any]], instructed: bool) -> None:
    body: dict[str, Any] = {"input": items, **({"instructions": "Be kind."} if instructed else {})}
    firsts = [at for at, item in enumerate(items) if not (at and item == items[at - 1] and item["role"] == "assistant")]
    assert [fault("messages", number + instructed, **body).param for number in range(len(firsts))] == [
        f"input.{at}" for at in firsts
    ]

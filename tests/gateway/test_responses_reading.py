"""Requests for responses, as the sidecar is asked."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_gateway.surfaces.faults import Refused
from mlx_sidecar_gateway.surfaces.kept import KeptResponses
from mlx_sidecar_gateway.surfaces.members import Members
from mlx_sidecar_gateway.surfaces.openai.responses.items import Chat, Thought, piece_of, sealed
from mlx_sidecar_gateway.surfaces.openai.responses.request import read
from mlx_sidecar_gateway.surfaces.surface import Generation, Question

FUNCTION: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": None}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "18 degrees"}


def generation(**body: Any) -> Generation:
    return read(Question(id="0" * 32, unix_s=1, model="m", body={"input": "Hi", "store": False, **body}))


def options(**body: Any) -> dict[str, Any]:
    """All options of a request that nothing is kept of."""
    asked = generation(**body)
    assert asked.prepare is not None
    backend: Any = SimpleNamespace(kept=KeptResponses())
    return {**asked.options, **anyio.run(partial(asked.prepare, backend, "m"))}


def messages(*items: Any, **body: Any) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = options(input=list(items), **body)["messages"]
    return asked


def refused(**body: Any) -> str | None:
    with pytest.raises(Refused) as error:
        options(**body)
    assert error.value.fault.status == 400
    return error.value.fault.param


@pytest.mark.parametrize(
    ("given_", "asked"),
    [
        ({}, {"temperature": 1.0}),
        ({"temperature": 0, "top_p": 0.5, "top_k": 4}, {"temperature": 0, "top_p": 0.5, "top_k": 4}),
        ({"max_output_tokens": 5}, {"max_tokens": 5}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"truncation": "auto"}, {"context_overflow": "drop_oldest"}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": 0}),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 3}, {"logprobs": 3}),
        ({"reasoning": {"effort": "low"}}, {"template_args": {"reasoning_effort": "low"}}),
        (
            {"reasoning": {"effort": "none"}, "chat_template_kwargs": {"a": 1}},
            {"template_args": {"reasoning_effort": "none", "enable_thinking": False, "a": 1}},
        ),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "strict": False, "schema": {"type": "object"}}}},
            {"response_format": {"type": "json_schema", "schema": {"type": "object"}}},
        ),
        (
            {"tools": [FUNCTION], "tool_choice": "required", "parallel_tool_calls": False},
            {"tool_choice": "required", "parallel_tool_calls": False},
        ),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}}, {"tool_choice": {"name": "f"}}),
    ],
)
def test_parameters_become_options(given_: dict[str, Any], asked: dict[str, Any]) -> None:
    assert options(**given_).items() >= asked.items()


def test_without_a_format_an_answer_has_none() -> None:
    assert not options(text={"format": {"type": "text"}}).keys() & {"response_format"}
    assert not options(tool_choice="auto", parallel_tool_calls=True).keys() & {"tools", "tool_choice"}


# Tools.


def test_a_function_is_told_as_the_sidecar_takes_it() -> None:
    strict = {**FUNCTION, "name": "g", "description": "d", "strict": True}
    assert options(tools=[FUNCTION, strict])["tools"] == [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
        {
            "type": "function",
            "function": {"name": "g", "description": "d", "parameters": {"type": "object"}, "strict": True},
        },
    ]


def test_tools_that_agents_offer_beside_their_functions_are_left_aside_by_name() -> None:
    beside = [{"type": "web_search"}, {"type": "namespace", "name": "n", "description": "", "tools": []}]
    asked = generation(tools=[*beside, FUNCTION], include=["web_search_call.results"])
    assert asked.ignored == ("tools.namespace", "tools.web_search", "include.web_search_call.results")
    assert [tool["function"]["name"] for tool in options(tools=[*beside, FUNCTION])["tools"]] == ["f"]
    assert refused(tools=beside) == "tools"
    assert refused(tools=[FUNCTION], tool_choice={"type": "web_search_preview"}) == "tool_choice.type"


def test_of_allowed_tools_the_model_is_told_alone() -> None:
    other = {**FUNCTION, "name": "g"}
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}
    asked = options(tools=[FUNCTION, other], tool_choice=choice)
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["g"]
    assert asked["tool_choice"] == "required"


# Input.


def test_a_text_is_a_users_and_instructions_stand_before_it() -> None:
    assert options(instructions="Be brief.")["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


def test_system_messages_at_the_beginning_are_one_with_the_instructions() -> None:
    developer = {"role": "developer", "content": [{"type": "input_text", "text": "In French."}]}
    user = {"role": "user", "content": "Hi"}
    assert messages(developer, user, developer, instructions="Be brief.") == [
        {"role": "system", "content": "Be brief.\n\nIn French."},
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "In French."},
    ]
    assert messages(developer) == [{"role": "system", "content": "In French."}]


def test_what_the_assistant_thought_said_and_called_is_one_message() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    said = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "phase": "commentary",
        "content": [{"type": "output_text", "text": "Let me look.", "annotations": [], "logprobs": []}],
    }
    assert messages({"role": "user", "content": "Hi"}, thought, said, CALL, RESULT) == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning_content": "Hm.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "18 degrees"},
    ]


words = st.text("ab", min_size=1, max_size=3)
said = st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["user", "assistant"]), words)
thoughts = st.builds(
    lambda text: {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}, words
)


@given(st.lists(st.one_of(said, thoughts, st.just(CALL), st.just(RESULT)), max_size=12))
def test_nothing_of_an_input_is_lost_or_reordered_within_its_kind(items: list[dict[str, Any]]) -> None:
    chat = Chat({"c1": "f"})
    chat.extend(piece_of(Members(item, "input")) for item in items)
    told = chat.messages
    for role in ("user", "assistant"):
        texts = [item["content"] for item in items if item.get("role") == role]
        assert "".join(text_of(message) for message in told if message["role"] == role) == "".join(texts)
    thought = [item["content"][0]["text"] for item in items if item.get("type") == "reasoning"]
    assert "".join(message.get("reasoning_content", "") for message in told) == "".join(thought)
    assert sum(len(message.get("tool_calls", ())) for message in told) == items.count(CALL)
    assert sum(message["role"] == "tool" for message in told) == items.count(RESULT)
    roles = [message["role"] for message in told]
    assert ("assistant", "assistant") not in pairwise(roles)


def text_of(message: dict[str, Any]) -> str:
    content = message["content"] or ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_reasoning_comes_back_from_what_clients_carry_unread(text: str) -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed(text)}
    assert piece_of(Members(item, "input.0")) == Thought(text)


@given(st.text(max_size=20))
def test_reasoning_that_others_encrypted_is_refused(text: str) -> None:
    for content in (text, sealed("Hm.")[:-1]):
        with pytest.raises(Refused) as error:
            piece_of(Members({"type": "reasoning", "summary": [], "encrypted_content": content}, "input.0"))
        assert error.value.fault.param == "input.0.encrypted_content"


def test_a_summary_is_taken_where_nothing_else_tells_the_reasoning() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
    chat = Chat({})
    chat.extend([piece_of(Members(item, "input.0"))])
    assert chat.messages == [{"role": "assistant", "content": "", "reasoning_content": "Hm."}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": [3]}, "input.0"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user", "content": 3}]}, "input.0.content"),
        ({"input": [{"role": "user", "content": "x", "wild": 1}]}, "input.0.wild"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.type"),
        ({"input": [{"type": "custom_tool_call"}]}, "input.0"),
        ({"input": [{"type": "nothing"}]}, "input.0"),
        ({"input": [{**CALL, "namespace": "n"}]}, "input.0.namespace"),
        ({"input": [{**CALL, "caller": {"type": "program", "caller_id": "p"}}]}, "input.0.caller.type"),
        ({"input": [RESULT]}, "input.0.call_id"),
        ({"input": [{"type": "item_reference", "id": f"msg_{'0' * 32}_0"}]}, "input.0.id"),
        ({"input": [{"id": "msg"}]}, "input.0.id"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "mcp"}]}, "tools.0.type"),
        ({"tools": [{**FUNCTION, "defer_loading": True}]}, "tools.0.defer_loading"),
        ({"tools": [{**FUNCTION, "allowed_callers": ["programmatic"]}]}, "tools.0.allowed_callers"),
        ({"tools": [{**FUNCTION, "wild": 1}]}, "tools.0.wild"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["everything"]}, "include.0"),
        ({"reasoning": {"summary": "concise"}}, "reasoning.summary"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"truncation": "always"}, "truncation"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"stream": "yes"}, "stream"),
        ({"store": "yes"}, "store"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    body = {name: value for name, value in body.items() if value is not None} if body != {"input": None} else body
    assert refused(**body) == param


def test_a_response_repeats_its_request() -> None:
    asked = generation(tools=[FUNCTION], metadata={"a": "b"}, max_output_tokens=9, instructions="Be brief.")
    data = asked.encoder().ping().decode()
    assert '"metadata":{"a":"b"}' in data
    assert '"instructions":"Be brief."' in data
    assert '"max_output_tokens":9' in data
    assert '"description":null' in data  # SDKs want all members of a tool

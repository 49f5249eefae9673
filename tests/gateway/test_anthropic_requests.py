"""Requests for Anthropic's Messages as options of the sidecar."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_sidecar_gateway.surfaces.anthropic.request import options_of
from mlx_sidecar_gateway.surfaces.anthropic.surface import read
from mlx_sidecar_gateway.surfaces.faults import Refused
from mlx_sidecar_gateway.surfaces.surface import Question

USER = {"role": "user", "content": "Hello"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "/é"}}
RESULT = {"type": "tool_result", "tool_use_id": "x"}
FOUND = {"type": "tool_reference", "tool_name": "erase"}
TOOL = {"name": "read", "description": "Read a file", "input_schema": {"type": "object", "properties": {}}}


def options(*messages: Any, headers: dict[str, str] | None = None, **body: Any) -> Any:
    given = {"max_tokens": 9, "messages": list(messages) or [USER], **body}
    return options_of(Question("0" * 32, 0, "m", headers or {}, body=given))


def refused(*messages: Any, **body: Any) -> str | None:
    with pytest.raises(Refused) as caught:
        options(*messages, **body)
    assert caught.value.fault.status == 400
    return caught.value.fault.param


def test_a_plain_message_is_one_message_at_anthropics_temperature() -> None:
    assert options() == {"max_tokens": 9, "messages": [USER], "temperature": 1.0}


def test_a_system_prompt_comes_first_and_of_several_blocks_each_is_a_part() -> None:
    assert options(system="Be brief.")["messages"] == [{"role": "system", "content": "Be brief."}, USER]
    blocks = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}} for text in ("a", "b")]
    assert options(system=blocks)["messages"][0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
    ]


def test_the_block_that_names_a_coding_agents_version_is_left_out_unless_it_is_to_be_kept() -> None:
    blocks = [{"type": "text", "text": text} for text in ("x-anthropic-billing-header: cc_version=2.1;", "You code.")]
    assert options(system=blocks)["messages"][0]["content"] == "You code."
    assert options(system=blocks[:1])["messages"] == [USER]
    kept = options(system=blocks, headers={"x-mlx-sidecar-keep-attribution": "1"})
    assert len(kept["messages"][0]["content"]) == 2


def test_a_system_message_in_mid_conversation_stays_at_its_place() -> None:
    late = {"role": "system", "content": [{"type": "text", "text": "Now in French."}]}
    assert options(USER, late)["messages"] == [USER, {"role": "system", "content": "Now in French."}]


def test_a_system_message_that_is_cleared_at_the_next_user_message_is_gone_behind_it() -> None:
    late = {"role": "system", "content": "Only now.", "clear_at": "next_user_message"}
    assert len(options(USER, late)["messages"]) == 2
    assert options(USER, late, USER)["messages"][0]["content"] == [{"type": "text", "text": "Hello"}] * 2


def test_turns_of_one_role_that_follow_each_other_are_one() -> None:
    joined = options(USER, USER, {"role": "assistant", "content": "a"}, USER)["messages"]
    assert [message["role"] for message in joined] == ["user", "assistant", "user"]


def test_calls_reasoning_and_results_go_back_into_the_chat() -> None:
    answer = [{"type": "thinking", "thinking": "Hm.", "signature": ""}, {"type": "text", "text": "I look."}, CALL]
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "12"}]}
    chat = options(
        USER,
        {"role": "assistant", "content": answer},
        {"role": "user", "content": [result, {"type": "text", "text": "Go"}]},
    )["messages"]
    arguments = '{"path":"/é"}'
    call = {"id": "toolu_1", "type": "function", "function": {"name": "read", "arguments": arguments}}
    assert chat[1:] == [
        {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_1", "name": "read", "content": "12"},
        {"role": "user", "content": "Go"},
    ]


@pytest.mark.parametrize("content", [[], None])
def test_a_result_may_be_empty_and_an_error(content: Any) -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True}
    answer = {"role": "assistant", "content": [CALL]}
    if content is None:
        assert options(USER, answer, {"role": "user", "content": [result]})["messages"][-1] == {
            "role": "tool",
            "tool_call_id": "toolu_1",
            "name": "read",
            "is_error": True,
            "content": "",
        }
    else:
        place = "messages.2.content.0.content"
        assert refused(USER, answer, {"role": "user", "content": [{**result, "content": content}]}) == place


def test_tools_and_their_choice_have_the_sidecars_shape() -> None:
    tool = {"name": "read", "description": "Read a file", "parameters": TOOL["input_schema"]}
    asked = options(tools=[TOOL], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert asked["tools"] == [{"type": "function", "function": tool}]
    assert asked["tool_choice"] == "required"
    assert asked["parallel_tool_calls"] is False
    assert options(tools=[TOOL], tool_choice={"type": "tool", "name": "read"})["tool_choice"] == {"name": "read"}
    assert options(tools=[{**TOOL, "strict": True}])["tools"][0]["function"]["strict"] is True


def test_without_tools_a_choice_that_chooses_nothing_is_left_out() -> None:
    assert "tool_choice" not in options(tool_choice={"type": "auto", "disable_parallel_tool_use": True}, tools=[])


def test_a_budget_of_thinking_is_one_of_reasoning() -> None:
    asked = options(thinking={"type": "enabled", "budget_tokens": 2048})
    assert (asked["reasoning_budget"], asked["template_args"]) == (2048, {"enable_thinking": True})


def test_thinking_that_is_disabled_is_switched_off_in_the_template() -> None:
    assert options(thinking={"type": "disabled"})["template_args"] == {"enable_thinking": False}


def test_adaptive_thinking_is_left_to_the_model() -> None:
    assert options(thinking={"type": "adaptive"}) == options()


@pytest.mark.parametrize("name", ["output_config", "output_format"])
def test_the_form_of_an_answer_is_a_schema(name: str) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    body = {"output_config": {"format": form}} if name == "output_config" else {name: form}
    assert options(**body)["response_format"] == form


def test_sampling_and_stop_sequences_have_the_sidecars_names() -> None:
    asked = options(temperature=0.0, top_k=4, top_p=0.5, stop_sequences=["END"])
    assert [asked[name] for name in ("temperature", "top_k", "top_p", "stop")] == [0.0, 4, 0.5, ["END"]]


def test_a_deferred_tool_is_shown_last_once_a_result_has_found_it() -> None:
    deferred = [{**TOOL, "name": name, "defer_loading": True} for name in ("write", "erase")]
    found = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [FOUND]}
    searched: Any = [USER, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [found]}]

    def names(*messages: Any) -> list[str]:
        return [tool["function"]["name"] for tool in options(*messages, tools=[*deferred, TOOL])["tools"]]

    assert names() == ["read"]
    assert names(*searched) == ["read", "erase"]
    assert options(*searched, tools=[*deferred, TOOL])["messages"][-1]["content"] == "The tool erase can be called now."
    assert refused(*searched, tools=[TOOL]) == "messages.2.content.0.content.0.tool_name"
    assert refused({"role": "user", "content": [FOUND]}) == "messages.0.content.0"


@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("max_tokens", {"max_tokens": None}),
        ("max_tokens", {"max_tokens": 0}),
        ("max_tokens", {"max_tokens": True}),
        ("system", {"system": []}),
        ("system.0", {"system": [{"type": "image", "source": {}}]}),
        ("tools.0.input_schema", {"tools": [{"name": "f"}]}),
        ("tools.0.type", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("tools.0.defer_loading", {"tools": [{**TOOL, "defer_loading": 1}]}),
        ("tools.0.input_examples", {"tools": [{**TOOL, "input_examples": [{}]}]}),
        ("tools.0.allowed_callers", {"tools": [{**TOOL, "allowed_callers": 1}]}),
        ("tools.0.allowed_callers", {"tools": [{**TOOL, "allowed_callers": ["code_execution_20260120"]}]}),
        ("tool_choice.type", {"tool_choice": {"type": "some"}}),
        ("tool_choice.name", {"tools": [TOOL], "tool_choice": {"type": "tool"}}),
        ("thinking.type", {"thinking": {"type": "between_tools"}}),
        ("thinking.budget_tokens", {"thinking": {"type": "enabled"}}),
        ("thinking.display", {"thinking": {"type": "adaptive", "display": "updates"}}),
        ("output_config.format.type", {"output_config": {"format": {"type": "regex"}}}),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(place: str, body: dict[str, Any]) -> None:
    assert refused(**body) == place


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("messages.0", "Hello"),
        ("messages.0.role", {"role": "tool", "content": "x"}),
        ("messages.0.content", {"role": "user"}),
        ("messages.0.content", {"role": "user", "content": []}),
        ("messages.0.clear_at", {"role": "user", "content": "x", "clear_at": "never"}),
        ("messages.0.content.0", {"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}),
        ("messages.0.content.0", {"role": "user", "content": [CALL]}),
        ("messages.0.content.0", {"role": "user", "content": [{"type": "new"}]}),
        ("messages.0.content.0.tool_use_id", {"role": "user", "content": [{"type": "tool_result"}]}),
        ("messages.0.content.0.text", {"role": "user", "content": [{"type": "text"}]}),
        ("messages.0.content.0.more", {"role": "user", "content": [{"type": "text", "text": "", "more": 1}]}),
        (
            "messages.0.content.0.tool_use_id",
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]},
        ),
        ("messages.0.role", {"role": "assistant", "content": "The best answer is ("}),
    ],
)
def test_a_block_that_does_not_fit_is_named(place: str, message: Any) -> None:
    assert refused(message) == place


def test_a_request_without_messages_is_refused() -> None:
    with pytest.raises(Refused, match="messages"):
        options_of(Question("0" * 32, 0, "m", body={"max_tokens": 1, "messages": []}))


def test_an_answer_is_not_streamed_unless_it_is_asked_for() -> None:
    body = {"max_tokens": 1, "messages": [USER]}
    assert [read(Question("", 0, "m", body={**body, **more})).stream for more in ({}, {"stream": True})] == [
        False,
        True,
    ]
    with pytest.raises(Refused, match="stream"):
        read(Question("", 0, "m", body={**body, "stream": 1}))

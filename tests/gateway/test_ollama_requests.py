"""Ollama's requests as options of the sidecar."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_sidecar_gateway.surfaces.faults import Refused
from mlx_sidecar_gateway.surfaces.ollama.request import (
    chat_options,
    generate_options,
    generate_way_of,
    is_streamed,
    kept_for_s,
)
from mlx_sidecar_gateway.surfaces.surface import Question

USER = {"role": "user", "content": "Hello"}
SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def asked(**body: Any) -> Question:
    return Question("0" * 32, 0, "m", body=body)


def chat(*messages: Any, **body: Any) -> Any:
    return chat_options(asked(messages=list(messages) or [USER], **body))


def refused(read: Any, **body: Any) -> str | None:
    with pytest.raises(Refused) as caught:
        read(asked(**body))
    assert caught.value.fault.status == 400
    return caught.value.fault.param


def test_a_plain_chat_is_sampled_as_ollama_does() -> None:
    assert chat() == {"messages": [USER], **SAMPLING}


def test_options_have_the_sidecars_names() -> None:
    given = {"num_predict": 7, "repeat_penalty": 1.1, "temperature": 0, "seed": 3, "stop": ["END"], "num_ctx": 4096}
    options = {"max_tokens": 7, "repetition_penalty": 1.1, "temperature": 0, "seed": 3, "stop": ["END"]}
    assert chat(options=given) == {"messages": [USER], **SAMPLING, **options}


@pytest.mark.parametrize("options", [{"num_predict": -1}, {"num_predict": -2}, {"seed": -1}])
def test_options_that_mean_none_are_left_out(options: dict[str, int]) -> None:
    assert chat(options=options) == chat()


def test_errors_in_the_messages_of_a_prompt_name_the_prompt_and_the_system_text() -> None:
    both = asked(prompt="Hello", system="Be brief.")
    assert [generate_way_of(both, ["messages", number, "content"]) for number in "01"] == ["system", "prompt"]
    assert generate_way_of(asked(prompt="Hello"), ["messages", "0"]) == "prompt"
    assert generate_way_of(asked(prompt="Hello", system=""), ["messages", "0"]) == "prompt"
    assert generate_way_of(both, ["messages"]) is None
    assert generate_way_of(both, ["max_tokens"]) is None


def test_a_form_is_json_or_a_schema() -> None:
    assert chat(format="json")["response_format"] == {"type": "json_object"}
    assert chat(format={"type": "object"})["response_format"]["schema"] == {"type": "object"}
    assert chat(format="") == chat()
    assert refused(chat_options, messages=[USER], format="yaml") == "format"


def test_results_of_calls_find_their_calls_by_name_and_by_order() -> None:
    calls = [{"function": {"name": name, "arguments": {"at": name}}} for name in ("f", "g", "f")]
    answer = {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": calls}
    results = [{"role": "tool", "content": "1", "tool_name": "g"}, {"role": "tool", "content": "2"}]
    messages = chat(USER, answer, *results, answer, *results)["messages"]
    ids = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert len(set(ids)) == 6
    assert all(len(id_) == 9 and id_.isalnum() for id_ in ids)
    told = [(each["name"], each["tool_call_id"]) for each in messages if each["role"] == "tool"]
    assert told[:2] == [("g", ids[1]), ("f", ids[0])]
    assert messages[1]["reasoning_content"] == "Hm."
    assert messages[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"at":"f"}'}


def test_a_result_may_name_its_call() -> None:
    calls = [{"id": id_, "function": {"name": "f"}} for id_ in ("a", "b")]
    result = {"role": "tool", "content": "1", "tool_call_id": "b"}
    messages = chat(USER, {"role": "assistant", "tool_calls": calls}, result)["messages"]
    assert messages[-1] == {"role": "tool", "content": "1", "tool_call_id": "b", "name": "f"}


def test_tools_are_functions_with_parameters() -> None:
    assert chat(tools=[TOOL])["tools"] == [TOOL]
    bare = chat(tools=[{"function": {"name": "f"}}])["tools"][0]["function"]
    assert bare["parameters"] == {"type": "object", "properties": {}}


def test_thinking_is_switched_in_the_template() -> None:
    assert chat(think=True)["template_args"] == {"enable_thinking": True}
    assert chat(think="high")["template_args"] == {"enable_thinking": True, "reasoning_effort": "high"}
    assert chat(think=False)["template_args"] == {"enable_thinking": False}
    assert "template_args" not in chat()


def test_logprobs_come_with_alternatives() -> None:
    assert chat(logprobs=True)["logprobs"] == 0
    assert chat(logprobs=True, top_logprobs=3)["logprobs"] == 3
    assert "logprobs" not in chat(logprobs=False)


def test_a_prompt_is_a_chat_unless_it_is_raw() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert generate_options(asked(prompt="Hello", system="Be brief."))["messages"] == [system, USER]
    assert generate_options(asked(prompt="Hello", raw=True)) == {"prompt": "Hello", **SAMPLING}


def test_answers_are_streamed_unless_they_are_not_to_be() -> None:
    assert is_streamed(asked())
    assert not is_streamed(asked(stream=False))


@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("300ms", 0.3),
        (10, 10),
        ("10", 10),
        (0, 0),
        ("0", 0),
        (-1, 1e9),
        ("-1", 1e9),
        ("-1m", 1e9),
        (10**30, 1e9),
        (None, None),
    ],
)
def test_a_model_is_kept_for_a_duration_of_gos(keep_alive: Any, seconds: float | None) -> None:
    assert kept_for_s(asked(keep_alive=keep_alive)) == seconds


@pytest.mark.parametrize("keep_alive", ["", "soon", "5 m", "5m!", True, "--1", "nan"])
def test_what_is_no_duration_is_refused(keep_alive: Any) -> None:
    assert refused(kept_for_s, keep_alive=keep_alive) == "keep_alive"


@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("messages.0", {"messages": ["Hello"]}),
        ("messages.0.role", {"messages": [{"content": "x"}]}),
        ("messages.0.images", {"messages": [{**USER, "images": ["aGVsbG8="]}]}),
        ("messages.0.more", {"messages": [{**USER, "more": 1}]}),
        ("messages.0.role", {"messages": [{"role": "assistant", "content": "The answer is"}]}),
        ("messages.0.tool_calls.0.function", {"messages": [{"role": "assistant", "tool_calls": [{}]}]}),
        ("tools.0.function.name", {"messages": [USER], "tools": [{"type": "function", "function": {}}]}),
        ("tools.0.type", {"messages": [USER], "tools": [{**TOOL, "type": "web"}]}),
        ("think", {"messages": [USER], "think": "a lot"}),
        ("top_logprobs", {"messages": [USER], "top_logprobs": 3}),
        ("options", {"messages": [USER], "options": []}),
    ],
)
def test_a_member_of_a_chat_that_does_not_fit_is_named(place: str, body: dict[str, Any]) -> None:
    assert refused(chat_options, **body) == place


@pytest.mark.parametrize("more", [{"system": "Be brief."}, {"think": True}])
def test_a_raw_prompt_has_no_template(more: dict[str, Any]) -> None:
    assert refused(generate_options, prompt="Hello", raw=True, **more) == next(iter(more))

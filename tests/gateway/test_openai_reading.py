"""Requests in OpenAI's shape, as the sidecar is asked."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_sidecar_client.protocol.errors import InvalidParams, ModelNotFound, Overloaded, UnsupportedParameter
from mlx_sidecar_gateway.core.faults import STATUS, fault_of, headers_of
from mlx_sidecar_gateway.surfaces.faults import Refused
from mlx_sidecar_gateway.surfaces.openai import chat, completions
from mlx_sidecar_gateway.surfaces.surface import Question

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def options(**body: Any) -> dict[str, Any]:
    body = {"messages": [USER], **body}
    return dict(chat.read(Question(id="0", unix_s=1, model="m", body=body)).options)


def message(**members: Any) -> dict[str, Any]:
    (one,) = options(messages=[members])["messages"]
    return dict(one)


def test_without_a_temperature_it_is_openais() -> None:
    assert options()["temperature"] == 1.0
    assert options(temperature=0)["temperature"] == 0


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop": ["x", "y"]}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [TOOL], "tool_choice": "required"}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": {"name": "f"}},
        ),
        ({"reasoning_effort": "low"}, {"template_args": {"reasoning_effort": "low"}}),
        ({"reasoning_effort": "none"}, {"template_args": {"reasoning_effort": "none", "enable_thinking": False}}),
        ({"chat_template_kwargs": {"a": 1}}, {"template_args": {"a": 1}}),
        ({"top_k": 4, "min_p": 0.1, "reasoning_budget": 9}, {"top_k": 4, "min_p": 0.1, "reasoning_budget": 9}),
    ],
)
def test_parameters_become_options(given: dict[str, Any], asked: dict[str, Any]) -> None:
    assert options(**given).items() >= asked.items()


def test_without_tools_nothing_is_asked_of_them() -> None:
    assert not options(tools=[], tool_choice="auto", parallel_tool_calls=False).keys() & {"tools", "tool_choice"}


def test_a_schema_is_always_kept_to_whether_strict_or_not() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "strict": False, "schema": {"type": "object"}}}
    assert options(response_format=form)["response_format"]["json_schema"] == {
        "name": "n",
        "schema": {"type": "object"},
    }


def test_a_schema_beside_an_object_is_kept_to_as_well() -> None:
    form = {"type": "json_object", "schema": {"const": 4}}
    assert options(response_format=form)["response_format"] == {"type": "json_schema", "schema": {"const": 4}}


def test_messages_are_taken_as_clients_send_them() -> None:
    assert message(role="developer", content="Be brief.") == {"role": "system", "content": "Be brief."}
    assert message(role="user", content=[{"type": "text", "text": "Hi"}])["content"] == [{"type": "text", "text": "Hi"}]
    # An answer of before, as the package replays it.
    replayed = message(role="assistant", content="Hi", refusal=None, annotations=[], audio=None, reasoning_content="Hm")
    assert replayed == {"role": "assistant", "content": "Hi", "reasoning_content": "Hm"}
    assert message(role="assistant", refusal="No.") == {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [3]}, "messages.0"),
        ({"messages": [{**USER, "wild": 1}]}, "messages.0.wild"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"type": "custom"}]}]}, "messages.0.tool_calls.0"),
        ({"max_tokens": 4, "max_completion_tokens": 5}, "max_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": 2}, "logprobs"),
        ({"tools": [{"type": "custom"}]}, "tools.0.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {}}, "stream_options"),
        ({"chat_template_kwargs": 3}, "chat_template_kwargs"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refused) as refused:
        options(**body)
    assert (refused.value.fault.status, refused.value.fault.param) == (400, param)


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [("p", {"prompt": "p"}), (["p"], {"prompt": "p"}), ([1, 2], {"tokens": [1, 2]}), ([[1, 2]], {"tokens": [1, 2]})],
)
def test_a_prompt_may_be_text_or_tokens_and_alone_in_a_list(prompt: Any, asked: dict[str, Any]) -> None:
    read = completions.read(Question(id="0", unix_s=1, model="m", body={"prompt": prompt})).options
    assert {name: read[name] for name in ("prompt", "tokens") if name in read} == asked


@pytest.mark.parametrize("prompt", [None, [], ["p", "q"], 3])
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(Refused) as refused:
        completions.read(Question(id="0", unix_s=1, model="m", body={"prompt": prompt}))
    assert refused.value.fault.param == "prompt"


# The sidecar's errors.


def test_every_kind_of_the_sidecars_errors_has_a_status() -> None:
    from mlx_sidecar_client.protocol.error_data import DETAILS

    assert {error.kind for error in DETAILS} == STATUS.keys()


def test_an_error_names_the_field_as_the_client_does() -> None:
    fault = fault_of(InvalidParams.field("max_tokens", "too small"), {"max_tokens": "max_completion_tokens"})
    assert (fault.param, fault.message) == ("max_completion_tokens", "max_completion_tokens: too small")
    assert fault_of(UnsupportedParameter("speculation", "no")).param == "speculation"
    assert fault_of(ModelNotFound("m")).param == "model"


def test_an_overloaded_sidecar_tells_when_to_try_again() -> None:
    fault = fault_of(Overloaded(queue=9, limit=9, retry_after_s=2.5))
    assert fault.status == 503
    assert headers_of(fault) == {"x-should-retry": "true", "retry-after": "3", "retry-after-ms": "2500"}
    late = headers_of(fault_of(Overloaded(queue=9, limit=9, retry_after_s=1e9)))
    assert late["retry-after"] == "60"
    assert headers_of(fault_of(ModelNotFound("m"))) == {}

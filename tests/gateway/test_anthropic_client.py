"""Anthropic's Python client, unmodified, with a gateway over the fake engine."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import anthropic
import pytest
from anthropic import Anthropic
from anthropic.types import MessageParam, ToolParam
from anthropic.types.beta import BetaUserMessageParam

from tests.gateway.gateway_process import GatewayProcess, gateway_process
from tests.gateway.scripts import call, script

USER: MessageParam = {"role": "user", "content": "Hello"}
TOOL: ToolParam = {
    "name": "read",
    "description": "Read a file",
    "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
}
ANSWER = "<think>\nHm.\n</think>\n\nI look." + call("read", '{"path": "/é"}')
ECHO = "fake?echo=1"


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    with gateway_process("--engine", "fake") as started:
        yield started


@pytest.fixture(scope="module")
def client(gateway: GatewayProcess) -> Iterator[Anthropic]:
    with Anthropic(base_url=gateway.url, api_key="any", max_retries=0) as made:
        yield made


def said(client: Anthropic, *messages: MessageParam, **more: Any) -> str:
    """The prompt, as an echoing model gives it back."""
    message = client.messages.create(model=ECHO, max_tokens=5000, messages=messages, **more)
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message_is_answered(client: Anthropic) -> None:
    message = client.messages.create(model=script("Good day."), max_tokens=100, messages=[USER])
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "Good day."}]
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 9)
    assert message.id == f"msg_{message._request_id}"


def test_a_stream_has_thinking_text_and_a_call(client: Anthropic) -> None:
    with client.messages.stream(model=script(ANSWER), max_tokens=500, messages=[USER], tools=[TOOL]) as stream:
        streamed = stream.get_final_message()
    whole = client.messages.create(model=script(ANSWER), max_tokens=500, messages=[USER], tools=[TOOL])
    kinds = [block.type for block in streamed.content]
    assert kinds == [block.type for block in whole.content] == ["thinking", "text", "tool_use"]
    assert [block.to_dict() for block in streamed.content[:2]] == [block.to_dict() for block in whole.content[:2]]
    used = streamed.content[2]
    assert used.type == "tool_use"
    assert (used.name, used.input, streamed.stop_reason) == ("read", {"path": "/é"}, "tool_use")
    assert streamed.usage.input_tokens == whole.usage.input_tokens


def test_a_tool_loop_of_two_turns(client: Anthropic) -> None:
    first = client.messages.create(model=script(ANSWER), max_tokens=500, messages=[USER], tools=[TOOL])
    used = first.content[-1]
    assert used.type == "tool_use"
    result: MessageParam = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": used.id, "content": "the file"}],
    }
    answer: MessageParam = {"role": "assistant", "content": first.content}
    second = client.messages.create(
        model=script("It is empty."), max_tokens=500, messages=[USER, answer, result], tools=[TOOL]
    )
    assert [block.type for block in second.content] == ["text"]
    # The echo of a call is a call again.
    echoed = client.messages.create(model=ECHO, max_tokens=5000, messages=[USER, answer, result], tools=[TOOL])
    assert any(block.type == "tool_use" and block.input == {"path": "/é"} for block in echoed.content)
    assert any(block.type == "text" and "<|tool|>the file\n" in block.text for block in echoed.content)


def test_its_tool_runner_goes_on_without_a_thread(client: Anthropic) -> None:
    asked: list[str] = []

    @anthropic.beta_tool
    def read(path: str) -> str:
        """Read a file."""
        asked.append(path)
        return "the file"

    model, user = script(ANSWER, then="It is empty."), BetaUserMessageParam(role="user", content="Hello")
    last = client.beta.messages.tool_runner(model=model, max_tokens=500, messages=[user], tools=[read]).until_done()
    assert (asked, [block.to_dict() for block in last.content]) == (["/é"], [{"type": "text", "text": "It is empty."}])


def test_a_cut_answer_stops_for_its_tokens(client: Anthropic) -> None:
    with client.messages.stream(model=script("abcdef"), max_tokens=3, messages=[USER]) as stream:
        message = stream.get_final_message()
    assert (message.stop_reason, stream.get_final_text()) == ("max_tokens", "abc")


def test_a_stop_sequence_is_named(client: Anthropic) -> None:
    message = client.messages.create(
        model=script("one END two"), max_tokens=100, messages=[USER], stop_sequences=["END"]
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


def test_a_call_that_is_cut_off_is_not_a_whole_one(client: Anthropic) -> None:
    with client.messages.stream(model=script(ANSWER), max_tokens=70, messages=[USER], tools=[TOOL]) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "max_tokens"
    whole = client.messages.create(model=script(ANSWER), max_tokens=70, messages=[USER], tools=[TOOL])
    assert [block.type for block in whole.content] == ["thinking", "text"]


def test_a_call_that_cannot_be_read_is_an_error_because_clients_would_run_it(client: Anthropic) -> None:
    model = script("I look." + call("read", '{"path": "/etc" and more}'))
    with pytest.raises(anthropic.APIStatusError, match="tool_call_error"):
        client.messages.create(model=model, max_tokens=500, messages=[USER], tools=[TOOL])
    stream = client.messages.stream(model=model, max_tokens=500, messages=[USER], tools=[TOOL])
    with stream as told, pytest.raises(anthropic.APIStatusError, match="tool_call_error"):
        told.until_done()


def test_system_and_tools_are_in_the_prompt(client: Anthropic) -> None:
    late: MessageParam = {"role": "system", "content": "Now in French."}
    prompt = said(client, USER, late, system=[{"type": "text", "text": "Be brief."}], tools=[TOOL])
    assert prompt.startswith("<|tools|>")
    assert prompt.endswith("<|system|>Be brief.\n<|user|>Hello\n<|system|>Now in French.\n<|assistant|>")


def test_an_answer_has_the_form_of_a_schema(client: Anthropic) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    message = client.messages.create(
        model=script('{"n": "three"}'),
        max_tokens=100,
        messages=[USER],
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert message.content[0].type == "text"
    assert isinstance(json.loads(message.content[0].text)["n"], int)


def test_thinking_has_a_budget_and_can_be_switched_off_and_omitted(client: Anthropic) -> None:
    model = script("<think>\n" + "a" * 50 + "\n</think>\n\nb")
    thought = client.messages.create(
        model=model, max_tokens=100, messages=[USER], thinking={"type": "enabled", "budget_tokens": 20}
    )
    assert thought.content[0].type == "thinking"
    assert 0 < thought.content[0].thinking.count("a") < 25
    off = client.messages.create(model=model, max_tokens=100, messages=[USER], thinking={"type": "disabled"})
    assert not any(block.type == "thinking" and "a" in block.thinking for block in off.content)
    omitted = client.messages.create(
        model=model, max_tokens=100, messages=[USER], thinking={"type": "adaptive", "display": "omitted"}
    )
    assert omitted.content[0].type == "thinking"
    assert omitted.content[0].thinking == ""


def test_count_tokens_says_what_the_message_will_use(client: Anthropic) -> None:
    drawn = random.Random(19)
    for _ in range(100):
        body = random_body(drawn)
        counted = client.messages.count_tokens(model="fake", **body).input_tokens
        assert client.messages.create(model="fake?tokens=1", max_tokens=9, **body).usage.input_tokens == counted


def random_body(drawn: random.Random) -> dict[str, Any]:
    """A conversation of some turns, often with tools, a system prompt and calls."""
    words = [drawn.choice(["tree", "é", "北", "\n", "{", "<think>", "  "]) for _ in range(drawn.randrange(1, 30))]
    text = "".join(words)
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
    if drawn.random() < 0.5:
        used = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": text}}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": text}]}
        body["messages"] += [
            {"role": "assistant", "content": [{"type": "thinking", "thinking": text, "signature": ""}, used]},
            {"role": "user", "content": [result, {"type": "text", "text": text}]},
        ]
    if drawn.random() < 0.5:
        body["system"] = [{"type": "text", "text": text} for _ in range(drawn.randrange(1, 3))]
    if drawn.random() < 0.5:
        body["tools"] = [{**TOOL, "name": f"tool{number}"} for number in range(drawn.randrange(1, 4))]
    return body


@pytest.mark.parametrize(
    ("error", "place", "more"),
    [
        (anthropic.NotFoundError, "model", {"model": "/etc"}),
        (anthropic.BadRequestError, "max_tokens", {"max_tokens": 0}),
        (anthropic.BadRequestError, "top_p", {"top_p": 3}),
        (anthropic.BadRequestError, "stop_sequences", {"stop_sequences": ["x"] * 17}),
        (anthropic.BadRequestError, "container", {"container": "c"}),
        (anthropic.BadRequestError, "more", {"more": 1}),
        (
            anthropic.BadRequestError,
            "messages.0.content.0",
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
        ),
    ],
)
def test_errors_are_anthropics_and_name_the_field(
    client: Anthropic, error: type[anthropic.APIStatusError], place: str, more: dict[str, Any]
) -> None:
    with pytest.raises(error) as caught:
        client.messages.create(model="fake", max_tokens=5, messages=[USER], stream=False, extra_body=more)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["param"] == place


def test_harmless_parameters_are_taken_and_named(client: Anthropic) -> None:
    harmless: dict[str, Any] = {
        "messages": [USER],
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "output_config": {"effort": "high"},
        "cache_control": {"type": "ephemeral"},
        "betas": ["context-1m-2025-08-07"],
    }
    raw = client.beta.messages.with_raw_response.create(model="fake", max_tokens=5, **harmless)
    ignored = raw.headers["x-mlx-sidecar-ignored"].split(", ")
    assert sorted(ignored) == ["metadata", "output_config.effort", "service_tier"]


def test_silence_is_broken_by_pings(gateway: GatewayProcess) -> None:
    body = {"model": "fake?tokens=1&prefill_ms=400", "max_tokens": 5, "stream": True, "messages": [USER]}
    with urlopen(f"{gateway.url}/v1/messages?beta=true", json.dumps(body).encode()) as answer:
        names = [line.decode().split()[1] for line in answer if line.startswith(b"event: ")]
    assert names[:2] == ["message_start", "ping"]
    assert names[-1] == "message_stop"


def test_models_are_listed_for_anthropics_clients(client: Anthropic) -> None:
    models = client.models.list().data
    assert models
    assert client.models.retrieve(models[0].id) == models[0]
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("owner/none")

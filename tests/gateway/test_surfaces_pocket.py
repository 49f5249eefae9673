"""Python clients of all surfaces with a gateway over a real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import Anthropic
from ollama import Client, ResponseError
from openai import OpenAI

from tests.gateway.gateway_process import GatewayProcess, gateway_process

USER = "Tell me of the sea, and of the trees that stand beside it."
SYSTEM = "You answer in few words, and you know the forest, the sea, the hills and all the birds there are. " * 4


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    with gateway_process("--model", "small=pocket") as started:
        yield started


@pytest.fixture(scope="module")
def anthropic(gateway: GatewayProcess) -> Iterator[Anthropic]:
    with Anthropic(base_url=gateway.url, api_key="any", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def ollama(gateway: GatewayProcess) -> Iterator[Client]:
    with Client(gateway.url) as made:
        yield made


@pytest.fixture(scope="module")
def openai(gateway: GatewayProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def test_a_response_is_continued_without_computing_what_came_before(openai: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "small", "instructions": SYSTEM, "temperature": 0, "max_output_tokens": 20}
    first = openai.responses.create(**asked, input=USER)
    second = openai.responses.create(**asked, input="Go on.", previous_response_id=first.id)
    branch = openai.responses.create(**asked, input="Go on.", previous_response_id=first.id)
    assert first.usage is not None
    assert second.usage is not None
    before = first.usage.input_tokens + first.usage.output_tokens
    assert second.usage.input_tokens > before
    # The last token of an answer is in no cache, because nothing was computed behind it.
    assert second.usage.input_tokens_details.cached_tokens >= before - 1
    assert branch.output_text == second.output_text


def test_a_second_turn_of_a_message_reads_the_first_from_the_cache(anthropic: Anthropic) -> None:
    greedy = {"extra_body": {"temperature": 0}}  # the client's own methods have it no more
    body: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": USER}], **greedy}
    version: dict[str, Any] = {"type": "text", "text": "x-anthropic-billing-header: cc_version=1;"}
    body["system"] = [version, {"type": "text", "text": SYSTEM}]
    with anthropic.messages.stream(**body, max_tokens=20) as stream:
        first = stream.get_final_message()
    whole = anthropic.messages.create(**body, max_tokens=20)
    assert [block.to_dict() for block in whole.content] == [
        {name: value for name, value in block.to_dict().items() if name != "parsed_output"} for block in first.content
    ]
    body["messages"] += [{"role": "assistant", "content": whole.content}, {"role": "user", "content": "Go on."}]
    body["system"] = [{**version, "text": "x-anthropic-billing-header: cc_version=2;"}, body["system"][1]]
    usage = anthropic.messages.create(**body, max_tokens=5).usage
    prompt = anthropic.messages.count_tokens(model="small", system=body["system"], messages=body["messages"])
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == prompt.input_tokens
    assert (usage.cache_read_input_tokens or 0) >= first.usage.input_tokens * 0.9


def test_a_prompt_says_where_it_left_the_one_before(anthropic: Anthropic) -> None:
    asked: dict[str, Any] = {"model": "small", "max_tokens": 3, "extra_headers": {"x-mlx-sidecar-explain-cache": "1"}}
    for city in ("Paris", "London"):
        message = f"{SYSTEM} And of {city}: {USER}"
        raw = anthropic.messages.with_raw_response.create(messages=[{"role": "user", "content": message}], **asked)
        found = json.loads(raw.headers["x-mlx-sidecar-cache"])
    assert found["because"] == "changed_text"
    assert found["where"]["path"] == ["messages", 0, "content"]
    assert raw.parse().usage.cache_read_input_tokens


def test_a_call_of_a_tool_that_must_be_called_is_whole(anthropic: Anthropic) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    message = anthropic.messages.create(
        model="small",
        max_tokens=200,
        messages=[{"role": "user", "content": USER}],
        tools=[{"name": "count", "description": "Count", "input_schema": schema}],
        tool_choice={"type": "tool", "name": "count"},
    )
    assert message.stop_reason == "tool_use"
    (used,) = [block for block in message.content if block.type == "tool_use"]
    assert isinstance(used.input["n"], int)


def test_ollamas_chat_and_generate_say_the_same(ollama: Client) -> None:
    options = {"temperature": 0, "num_predict": 20}
    chat = ollama.chat("small", [{"role": "user", "content": USER}], options=options)
    pieces = list(ollama.generate("small", prompt=USER, options=options, stream=True))
    assert chat.message.content
    assert "".join(piece.response or "" for piece in pieces) == chat.message.content
    assert (pieces[-1].done_reason, pieces[-1].eval_count) == (chat.done_reason, chat.eval_count)


def test_a_model_that_the_gateway_was_started_with_stays(ollama: Client) -> None:
    with pytest.raises(ResponseError, match="keep_alive"):
        ollama.generate("small", keep_alive=0)
    assert ollama.ps().models


def test_a_model_has_the_name_that_the_gateway_offers(ollama: Client) -> None:
    assert [model.model for model in ollama.list().models] == ["small"]
    assert [model.name for model in ollama.ps().models] == ["small"]
    shown = ollama.show("small")
    assert shown.details is not None
    assert shown.details.parameter_size == "1.0M"
    assert shown.capabilities is not None
    assert "tools" in shown.capabilities

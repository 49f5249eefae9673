"""Ollama's Python client, unmodified, with a gateway over the fake engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from ollama import Client, ResponseError

from tests.gateway.gateway_process import GatewayProcess, gateway_process
from tests.gateway.scripts import call, script

USER = {"role": "user", "content": "Hello"}
ECHO = "fake?echo=1"
ANSWER = "<think>\nHm.\n</think>\n\nI look." + call("add", '{"a": 1, "b": 2}')


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: one number
        b: another one
    """
    return a + b


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    with gateway_process("--engine", "fake") as started:
        yield started


@pytest.fixture(scope="module")
def client(gateway: GatewayProcess) -> Iterator[Client]:
    with Client(gateway.url) as made:
        yield made


def test_a_chat_is_answered_whole_and_in_pieces(client: Client) -> None:
    model = script("Good day.", delay_ms=1)
    whole = client.chat(model, [USER])
    pieces = list(client.chat(model, [USER], stream=True))
    assert whole.message.content == "".join(piece.message.content or "" for piece in pieces) == "Good day."
    assert (pieces[-1].done, pieces[-1].done_reason, pieces[-1].eval_count) == (True, "stop", 9)
    assert pieces[-1].total_duration is not None
    assert pieces[-1].total_duration > 0


def test_reasoning_and_calls_have_places_of_their_own(client: Client) -> None:
    pieces = list(client.chat(script(ANSWER), [USER], tools=[add], think=True, stream=True))
    whole = client.chat(script(ANSWER), [USER], tools=[add], think=True)
    calls = [called for piece in pieces for called in piece.message.tool_calls or ()]
    assert calls == whole.message.tool_calls
    assert calls[0].function.arguments == {"a": 1, "b": 2}
    assert "".join(piece.message.thinking or "" for piece in pieces) == whole.message.thinking
    assert whole.message.content == "I look."


def test_a_tool_loop_of_two_turns(client: Client) -> None:
    answer = client.chat(script(ANSWER), [USER], tools=[add]).message
    assert answer.tool_calls
    result = {"role": "tool", "tool_name": "add", "content": str(add(**answer.tool_calls[0].function.arguments))}
    second = client.chat(script("It is 3."), [USER, answer, result], tools=[add])
    assert second.message.content == "It is 3."
    assert second.prompt_eval_count is not None
    assert second.prompt_eval_count > (client.chat("fake", [USER], tools=[add]).prompt_eval_count or 0)


def test_a_prompt_is_answered_with_its_system_prompt(client: Client) -> None:
    echoed = client.generate(ECHO, prompt="Hello", system="Be brief.")
    assert echoed.response == "<|system|>Be brief.\n<|user|>Hello\n<|assistant|>"
    pieces = list(client.generate(ECHO, prompt="Hello", system="Be brief.", stream=True))
    assert "".join(piece.response or "" for piece in pieces) == echoed.response


def test_a_raw_prompt_is_continued_as_it_is(client: Client) -> None:
    assert client.generate(ECHO, prompt="<think>x", raw=True).response == "<think>x"
    assert client.generate(ECHO, prompt="<think>x", raw=True, think=False).response == "<think>x"


def test_options_bound_the_answer(client: Client) -> None:
    answer = client.chat(script("abcdef"), [USER], options={"num_predict": 3, "num_ctx": 4096})
    assert (answer.message.content, answer.done_reason) == ("abc", "length")
    assert client.chat(script("one END two"), [USER], options={"stop": ["END"]}).message.content == "one "


def test_an_answer_has_the_form_that_is_asked_for(client: Client) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answer = client.chat(script('{"n": "three"}'), [USER], format=schema)
    assert isinstance(json.loads(answer.message.content or "")["n"], int)
    assert client.generate(script('{"n": 3} and'), prompt="x", format="json").response == '{"n": 3}'


def test_thinking_is_switched_off(client: Client) -> None:
    model = script("<think>\naaaa\n</think>\n\nb")
    assert client.chat(model, [USER]).message.thinking
    assert "a" not in (client.chat(model, [USER], think=False).message.thinking or "")


def test_log_probabilities_are_told(client: Client) -> None:
    answer = client.chat(script("ab"), [USER], logprobs=True, top_logprobs=2)
    assert answer.logprobs
    assert [entry.token for entry in answer.logprobs[:2]] == ["a", "b"]
    assert len(answer.logprobs[0].top_logprobs or ()) == 2
    pieces = list(client.chat(script("ab"), [USER], logprobs=True, top_logprobs=2, stream=True))
    assert [entry for piece in pieces for entry in piece.logprobs or ()] == list(answer.logprobs)


def test_models_are_listed_and_described(client: Client) -> None:
    assert "pocket" in {model.model for model in client.list().models}
    shown = client.show("pocket")
    assert shown.capabilities
    assert "completion" in shown.capabilities
    assert shown.modelinfo
    family = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[f"{family}.context_length"] > 0


def test_a_model_is_loaded_kept_and_unloaded(client: Client) -> None:
    def resident() -> set[str | None]:
        return {model.model for model in client.ps().models}

    assert client.generate("fake?tokens=2", keep_alive="1h").done_reason == "load"
    assert "fake?tokens=2" in resident()
    assert client.chat("fake?tokens=2", [USER], keep_alive=-1).done
    assert client.chat("fake?tokens=2", keep_alive=0).done_reason == "unload"
    assert "fake?tokens=2" not in resident()


@pytest.mark.parametrize(
    ("status", "place", "more"),
    [
        (404, "model", {"model": "/etc"}),
        (400, "options.mirostat", {"options": {"mirostat": 2}}),
        (400, "options.top_p", {"options": {"top_p": 3}}),
        (400, "options.num_predict", {"options": {"num_predict": 0}}),
        (400, "keep_alive", {"keep_alive": "soon"}),
        (400, "messages.0.images", {"messages": [{**USER, "images": ["aGVsbG8="]}]}),
    ],
)
def test_errors_name_the_field(client: Client, status: int, place: str, more: dict[str, Any]) -> None:
    with pytest.raises(ResponseError) as caught:
        client.chat(**{"model": "fake", "messages": [USER], **more})
    assert caught.value.status_code == status
    assert place in caught.value.error


def test_what_is_not_there_is_refused_by_name(client: Client) -> None:
    with pytest.raises(ResponseError, match="/api/pull") as caught:
        client.pull("pocket")
    assert caught.value.status_code == 501


def test_silence_is_broken_by_lines_that_say_nothing(gateway: GatewayProcess) -> None:
    body = {"model": "fake?tokens=1&prefill_ms=400", "messages": [USER]}
    with urlopen(f"{gateway.url}/api/chat", json.dumps(body).encode()) as answer:
        lines = [json.loads(line) for line in answer]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[0]["message"] == {"role": "assistant", "content": ""}

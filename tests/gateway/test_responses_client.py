"""OpenAI's own Python package asks a gateway process for responses, and continues them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import FunctionToolParam, Response, ResponseInputParam
from pydantic import BaseModel

from tests.gateway.gateway_process import GatewayProcess, gateway_process
from tests.gateway.scripts import call, script

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
AGENT = script(call("get_weather", '{"city": "Paris"}'))
THINKS = script("<think>\nHm.\n</think>\n\nYes.")


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    with gateway_process("--engine", "fake") as process:
        yield process


@pytest.fixture(scope="module")
def client(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def prompt_of(client: openai.OpenAI, response: Response, question: str = "Go on.", **more: Any) -> str:
    """The prompt of a request that continues a response, which a model tells that repeats it."""
    asked: dict[str, Any] = {"previous_response_id": response.id, **more}
    echo: Response = client.responses.create(model="fake?echo=1", input=question, **asked)
    return echo.output_text


# Answers.


def test_a_text_is_answered(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=script("Good day"), input="Hello", metadata={"a": "b"})
    assert answer.output_text == "Good day"
    assert (answer.status, answer.metadata, answer.error) == ("completed", {"a": "b"}, None)
    assert answer.usage is not None
    assert answer.usage.output_tokens == len("Good day")
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_an_answer_is_streamed(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model=script("Grüß Gott 👋"), input="Hello", stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Grüß Gott 👋"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "Grüß Gott 👋"


def test_the_helper_for_streams_puts_a_response_together(client: openai.OpenAI) -> None:
    with client.responses.stream(model=AGENT, input="Hello", tools=[WEATHER]) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.function_call_arguments.delta"]
        final = stream.get_final_response()
    assert json.loads(snapshots[-1]) == {"city": "Paris"}
    (called,) = final.output
    assert called.type == "function_call"
    assert (called.name, json.loads(called.arguments)) == ("get_weather", {"city": "Paris"})


class Person(BaseModel):
    name: str
    age: int


def test_an_answer_is_parsed_into_a_type(client: openai.OpenAI) -> None:
    model = script('{"name": "Ann", "age": 3}')
    answer = client.responses.parse(model=model, input="Who?", text_format=Person)
    assert answer.output_parsed == Person(name="Ann", age=3)
    with client.responses.stream(model=model, input="Who?", text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == Person(name="Ann", age=3)


@pytest.mark.parametrize("streamed", [False, True])
def test_reasoning_is_an_item_or_a_summary_and_can_be_carried_unread(client: openai.OpenAI, streamed: bool) -> None:
    def asked(**more: Any) -> Response:
        if not streamed:
            whole: Response = client.responses.create(model=THINKS, input="Hello", **more)
            return whole
        with client.responses.stream(model=THINKS, input="Hello", **more) as stream:
            return stream.get_final_response()

    thought, said = asked().output
    assert thought.type == "reasoning"
    assert thought.content is not None
    assert (thought.content[0].text.strip(), thought.summary, thought.encrypted_content) == ("Hm.", [], None)
    summed, said = asked(reasoning={"summary": "auto"}, include=["reasoning.encrypted_content"]).output
    assert summed.type == "reasoning"
    assert (summed.summary[0].text.strip(), summed.content) == ("Hm.", None)
    user = {"role": "user", "content": "Hi"}
    carried: Any = [user, {**summed.to_dict(), "summary": []}, said.to_dict(), user]
    echo = client.responses.create(model="fake?echo=1", input=carried)
    assert "Hm." in echo.output_text


@pytest.mark.parametrize("streamed", [False, True])
def test_log_probabilities_are_those_of_the_text(client: openai.OpenAI, streamed: bool) -> None:
    asked: dict[str, Any] = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    if streamed:
        with client.responses.stream(model=THINKS, input="Hello", **asked) as stream:
            answer: Response = stream.get_final_response()
    else:
        answer = client.responses.create(model=THINKS, input="Hello", **asked)
    (part,) = [part for item in answer.output if item.type == "message" for part in item.content]
    assert part.type == "output_text"
    assert part.logprobs is not None
    assert "".join(entry.token for entry in part.logprobs).endswith("Yes.")
    assert all(len(entry.top_logprobs) == 2 for entry in part.logprobs)


def test_a_limit_makes_a_response_incomplete(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=script("one two three"), input="Hello", max_output_tokens=3)
    assert (answer.status, answer.output_text) == ("incomplete", "one")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    events = list(
        client.responses.create(model=script("one two three"), input="Hello", max_output_tokens=3, stream=True)
    )
    assert events[-1].type == "response.incomplete"


def test_an_error_in_mid_stream_is_raised_behind_the_text(client: openai.OpenAI) -> None:
    stream = client.responses.create(
        model=script("half and half", fail_after=4, delay_ms=60), input="Hello", stream=True
    )
    texts: list[str] = []
    with pytest.raises(openai.APIError) as failed:
        texts.extend(event.delta for event in stream if event.type == "response.output_text.delta")
    assert "".join(texts) == "half"
    assert failed.value.code == "internal_error"


def test_refusals_name_the_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        client.responses.create(model="fake", input="Hello", max_output_tokens=-1)
    assert wrong.value.param == "max_output_tokens"
    form: Any = {"type": "json_schema", "name": "n", "schema": {"type": "nothing"}}
    with pytest.raises(openai.BadRequestError) as schema:
        client.responses.create(model="fake", input="Hello", text={"format": form})
    assert schema.value.param is not None
    assert schema.value.param.startswith("text.format.schema")
    with pytest.raises(openai.BadRequestError, match="conversation"):
        client.responses.create(model="fake", input="Hello", conversation="conv_1")
    with pytest.raises(openai.BadRequestError) as long:
        client.responses.create(model="fake?context=4", input="Hello")
    assert long.value.code == "context_length_exceeded"


def test_tools_of_an_agent_that_are_left_aside_are_named_in_the_header(client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        model="fake", input="Hello", tools=[WEATHER, {"type": "web_search"}], user="me"
    )
    assert raw.headers["x-mlx-sidecar-ignored"] == "user, tools.web_search"
    assert [tool.type for tool in raw.parse().tools] == ["function"]


# Conversations.


def test_a_response_is_continued(client: openai.OpenAI) -> None:
    first = client.responses.create(model="fake?text=Two", input="How many?", instructions="Count.")
    second = client.responses.create(
        model="fake?text=Two", input="And more?", instructions="Count.", previous_response_id=first.id
    )
    assert second.previous_response_id == first.id
    prompt = prompt_of(client, second, instructions="Count slowly.")
    for text in ("Count slowly.", "How many?", "Two", "And more?", "Go on."):
        assert prompt.count(text) >= 1
    assert prompt.count("Count.") == 0  # instructions are those of the request alone


def test_a_loop_of_tools_sends_the_result_alone(client: openai.OpenAI) -> None:
    model = f"{AGENT}&then=It%20is%20mild."
    first = client.responses.create(model=model, input="The weather?", tools=[WEATHER])
    (called,) = first.output
    assert called.type == "function_call"
    result: ResponseInputParam = [{"type": "function_call_output", "call_id": called.call_id, "output": "18 degrees"}]
    second = client.responses.create(model=model, input=result, tools=[WEATHER], previous_response_id=first.id)
    assert second.output_text == "It is mild."
    # The same by sending everything back, as people write it.
    whole: Any = [{"role": "user", "content": "The weather?"}, called.to_dict(), *result]
    assert client.responses.create(model=model, input=whole, tools=[WEATHER], store=False).output_text == "It is mild."
    with pytest.raises(openai.BadRequestError) as unknown:
        client.responses.create(model=model, input=result, tools=[WEATHER])
    assert unknown.value.param == "input.0.call_id"


def test_two_continuations_of_a_response_are_branches(client: openai.OpenAI) -> None:
    root = client.responses.create(model="fake?text=Root", input="Begin.")
    one = client.responses.create(model="fake?text=One", input="Left.", previous_response_id=root.id)
    two = client.responses.create(model="fake?text=Two", input="Right.", previous_response_id=root.id)
    assert "Left." in prompt_of(client, one)
    assert "Right." in prompt_of(client, two)
    assert "Left." not in prompt_of(client, two)
    assert "Right." not in prompt_of(client, one)


def test_a_continuation_that_is_not_stored_leaves_nothing(client: openai.OpenAI) -> None:
    root = client.responses.create(model="fake?text=Root", input="Begin.")
    gone = client.responses.create(model="fake?text=x", input="Hm.", previous_response_id=root.id, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(gone.id)
    with pytest.raises(openai.BadRequestError) as unknown:
        client.responses.create(model="fake", input="Go on.", previous_response_id=gone.id)
    assert (unknown.value.param, unknown.value.code) == ("previous_response_id", "previous_response_not_found")
    assert "Root" in prompt_of(client, root)


def test_an_item_of_a_kept_response_can_be_named(client: openai.OpenAI) -> None:
    first = client.responses.create(model="fake?text=Two", input="How many?")
    (item,) = first.output
    assert item.id is not None
    echo = client.responses.create(
        model="fake?echo=1",
        input=[{"type": "item_reference", "id": item.id}, {"role": "user", "content": "Go on."}],
    )
    assert "Two" in echo.output_text


def test_a_kept_response_is_told_its_input_listed_and_deleted(client: openai.OpenAI) -> None:
    asked: ResponseInputParam = [{"role": "user", "content": text} for text in ("One.", "Two.", "Three.")]
    first = client.responses.create(model="fake?text=Four", input=asked)
    second = client.responses.create(model="fake?text=Six", input="Five.", previous_response_id=first.id)
    assert client.responses.retrieve(first.id).to_dict() == first.to_dict()
    listed: list[Any] = [
        *client.responses.input_items.list(first.id, order="asc", limit=2),  # in two pages
        *client.responses.input_items.list(second.id),
    ]
    assert [item.content[0].text for item in listed] == ["One.", "Two.", "Three.", "Five."]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    assert "Four" in prompt_of(client, second)


def test_the_tokens_of_an_input_are_counted_ahead(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "fake?text=x", "input": "Hello", "instructions": "Be brief.", "tools": [WEATHER]}
    counted = client.responses.input_tokens.count(**asked)
    answer = client.responses.create(**asked)
    assert answer.usage is not None
    assert counted.input_tokens == answer.usage.input_tokens


def test_what_is_not_served_is_refused_with_a_sentence(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="a client that leaves ends its response"):
        client.responses.cancel("resp_1")
    with pytest.raises(openai.NotFoundError, match="not compacted"):
        client.responses.compact(model="fake", input="Hello")
    kept = client.responses.create(model="fake", input="Hello")
    with pytest.raises(openai.BadRequestError, match="stream"):
        client.responses.retrieve(kept.id, stream=True)


@pytest.mark.anyio
async def test_the_asynchronous_client_works_too(gateway: GatewayProcess) -> None:
    async with (
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any") as client,
        client.responses.stream(model=script("Good day"), input="Hello") as stream,
    ):
        assert (await stream.get_final_response()).output_text == "Good day"

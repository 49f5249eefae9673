"""OpenAI's own Python package, as it comes from its registry, against a gateway process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from tests.gateway.gateway_process import GatewayProcess, gateway_process

KEY = "sk-0123456789"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def saying(text: str, **options: int) -> str:
    """The name of a model that says this."""
    return "fake?text=" + quote(text) + "".join(f"&{name}={value}" for name, value in options.items())


CALLS = saying('<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"# of the tests\nme {KEY}\n")
    with gateway_process("--engine", "fake", "--keys", str(keys)) as process:
        yield process


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def test_models_are_listed(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "pocket" in names
    assert client.models.retrieve("pocket").owned_by == "mlx-sidecar"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/has-this")


def test_a_chat_is_answered(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=saying("Good day"), messages=HELLO)
    assert answer.choices[0].message.content == "Good day"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len("Good day")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_chat_is_streamed(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=saying("Grüß Gott 👋"), messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Grüß Gott 👋"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None


def test_the_helper_for_streams_puts_an_answer_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=CALLS, messages=HELLO, tools=[WEATHER]) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].finish_reason == "tool_calls"
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments) == {"city": "Paris"}


def test_a_tool_is_called_and_its_result_is_answered(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model=CALLS, messages=HELLO, tools=[WEATHER])
    message = first.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    # As people write it: the whole message is sent back, with what the SDK puts into it.
    replayed: list[ChatCompletionMessageParam] = [
        *HELLO,
        message.to_dict(),  # type: ignore[list-item]  # the SDK's own way of replaying one
        {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"},
    ]
    second = client.chat.completions.create(model=saying("It is mild."), messages=replayed, tools=[WEATHER])
    assert second.choices[0].message.content == "It is mild."


def test_a_tool_can_be_named(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=CALLS,
        messages=HELLO,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
        max_completion_tokens=200,
    )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [call.type for call in calls] == ["function"]
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(
            model=CALLS,
            messages=HELLO,
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "nothing"}},
        )
    assert wrong.value.param == "tool_choice"


def test_reasoning_has_its_own_member(client: openai.OpenAI) -> None:
    model = saying("<think>\nHm.\n</think>\n\nYes.")
    answer = client.chat.completions.create(model=model, messages=HELLO)
    assert answer.choices[0].message.content == "Yes."
    assert answer.choices[0].message.model_extra is not None
    assert answer.choices[0].message.model_extra["reasoning_content"].strip() == "Hm."
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens
    stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)
    deltas = [chunk.choices[0].delta for chunk in stream]
    assert "".join((delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas).strip() == "Hm."
    assert "".join(delta.content or "" for delta in deltas) == "Yes."


class Person(BaseModel):
    name: str
    age: int


def test_an_answer_is_parsed_into_a_type(client: openai.OpenAI) -> None:
    model = saying('{"name": "Ann", "age": 3}')
    answer = client.chat.completions.parse(model=model, messages=HELLO, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ann", age=3)
    loose = client.chat.completions.create(model=model, messages=HELLO, response_format={"type": "json_object"})
    assert json.loads(loose.choices[0].message.content or "") == {"name": "Ann", "age": 3}
    # The name and the schema's place are OpenAI's own nesting, and an error names the place in it.
    bad = {"type": "json_schema", "json_schema": {"name": "bad", "strict": False, "schema": {"type": "nothing"}}}
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=model, messages=HELLO, extra_body={"response_format": bad})
    assert wrong.value.param is not None
    assert wrong.value.param.startswith("response_format.json_schema.schema")


@pytest.mark.parametrize("streamed", [False, True])
def test_log_probabilities_are_those_of_the_text(client: openai.OpenAI, streamed: bool) -> None:
    model = saying("<think>\nHm.\n</think>\n\nYes.")
    if streamed:
        stream = client.chat.completions.create(model=model, messages=HELLO, logprobs=True, top_logprobs=2, stream=True)
        choices = [chunk.choices[0] for chunk in stream]
        entries = [entry for choice in choices if choice.logprobs for entry in choice.logprobs.content or ()]
    else:
        answer = client.chat.completions.create(model=model, messages=HELLO, logprobs=True, top_logprobs=2)
        assert answer.choices[0].logprobs is not None
        entries = answer.choices[0].logprobs.content or []
    assert "".join(entry.token for entry in entries).endswith("Yes.")
    assert "Hm" not in "".join(entry.token for entry in entries)
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in entries)
    assert entries[-1].bytes == [ord(".")]


def test_a_seed_makes_the_same_answer_again(client: openai.OpenAI) -> None:
    texts = {
        client.chat.completions.create(model="fake", messages=HELLO, seed=5, temperature=1).choices[0].message.content
        for _ in range(2)
    }
    assert len(texts) == 1


def test_stop_and_length_end_an_answer(client: openai.OpenAI) -> None:
    model = saying("one two three")
    stopped = client.chat.completions.create(model=model, messages=HELLO, stop="two")
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("one ", "stop")
    cut = client.chat.completions.create(model=model, messages=HELLO, max_completion_tokens=3)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("one", "length")


def test_a_prompt_is_continued(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=saying("and so on"), prompt="It goes on", logprobs=1)
    assert answer.choices[0].text == "and so on"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.text_offset == list(range(9))
    chunks = list(client.completions.create(model=saying("and so on"), prompt=[72, 105], stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "and so on"
    assert chunks[-1].choices[0].finish_reason == "stop"
    unasked = client.completions.create(model="fake?tokens=100", prompt=["Hi"])
    assert unasked.usage is not None
    assert unasked.usage.completion_tokens == 16  # as OpenAI's


def test_errors_are_those_that_the_package_knows(client: openai.OpenAI, gateway: GatewayProcess) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="fake", messages=HELLO, max_completion_tokens=-1)
    assert wrong.value.param == "max_completion_tokens"
    with pytest.raises(openai.BadRequestError) as unknown:
        client.chat.completions.create(model="fake", messages=HELLO, extra_body={"tempperature": 1})
    assert (unknown.value.param, unknown.value.code) == ("tempperature", "unknown_parameter")
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="fake?context=4", messages=HELLO)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="fake?fail_load=model_not_found", messages=HELLO)
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="wrong") as other,
        pytest.raises(openai.AuthenticationError),
    ):
        other.models.list()


def test_what_is_not_served_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="/v1/moderations"):
        client.moderations.create(input="text")
    with pytest.raises(openai.BadRequestError, match=r"messages\.0\.content\.0\.type"):
        client.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        )
    with pytest.raises(openai.BadRequestError, match="web_search_options"):
        client.chat.completions.create(model="fake", messages=HELLO, web_search_options={})


def test_an_error_in_mid_stream_is_raised_behind_the_text(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=saying("half and half", fail_after=4, delay_ms=60), messages=HELLO, stream=True
    )
    texts: list[str] = []
    with pytest.raises(openai.APIError):
        texts.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(texts) == "half"


def test_what_was_left_aside_is_named_in_a_header_and_counted(client: openai.OpenAI, gateway: GatewayProcess) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="fake", messages=HELLO, user="me", metadata={"a": "b"}, store=False, service_tier="auto"
    )
    ignored = raw.headers["x-mlx-sidecar-ignored"].split(", ")
    assert sorted(ignored) == ["metadata", "service_tier", "store", "user"]
    _, figures = gateway.get("/stats", Authorization=f"Bearer {KEY}")
    assert figures["ignored"]["metadata"] >= 1
    with pytest.raises(openai.BadRequestError, match="store"):
        client.chat.completions.create(model="fake", messages=HELLO, store=True)


async def ask_async(gateway: GatewayProcess) -> str:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client:
        stream = await client.chat.completions.create(model=saying("Good day"), messages=HELLO, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


@pytest.mark.anyio
async def test_the_asynchronous_client_works_too(gateway: GatewayProcess) -> None:
    assert await ask_async(gateway) == "Good day"


def test_the_embedded_model_answers_and_caches_what_it_has_read() -> None:
    with gateway_process("--model", "small=pocket") as gateway:
        assert gateway.get("/v1/models")[1]["data"][0]["id"] == "small"
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
            question: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How do I cancel a stream?"}]
            first = client.chat.completions.create(model="small", messages=question, temperature=0)
            text = first.choices[0].message.content
            assert text is not None
            chunks = client.chat.completions.create(model="small", messages=question, temperature=0, stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
            more: list[ChatCompletionMessageParam] = [
                *question,
                {"role": "assistant", "content": text},
                {"role": "user", "content": "And then?"},
            ]
            second = client.chat.completions.create(model="small", messages=more, max_tokens=4)
            assert second.usage is not None
            assert second.usage.prompt_tokens_details is not None
            assert second.usage.prompt_tokens_details.cached_tokens
            with pytest.raises(openai.NotFoundError):
                client.chat.completions.create(model="pocket", messages=question)

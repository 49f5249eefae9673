"""OpenAI's and Anthropic's own packages, through a gateway, onto another gateway and a further sidecar, all real."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.gateway.gateway_process import GatewayProcess, gateway_process
from tests.gateway.scripts import call, script

CALLS = script("<think>why</think>" + call("get_weather", '{"city": "Paris"}'))
SAYS = script("<think>why</think>Good day")
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
PARAMETERS: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: ChatCompletionToolParam = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}

each_kind = pytest.mark.parametrize("kind", ["openai", "anthropic"])


@pytest.fixture(scope="module")
def far() -> Iterator[GatewayProcess]:
    """The gateway that is the upstream."""
    with gateway_process("--engine", "fake") as process:
        yield process


@pytest.fixture(scope="module")
def near(far: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The gateway that clients ask."""
    file = tmp_path_factory.mktemp("providers") / "providers.yaml"
    models = {"calls": CALLS, "says": SAYS, "stumbles": script("Good day to you", fail_after=3)}
    routes = [
        f"  {kind}-{name}: [{{provider: {kind}, model: '{model}'}}]"
        for kind in ("openai", "anthropic")
        for name, model in models.items()
    ]
    file.write_text(
        "\n".join(
            [
                "providers:",
                f"  openai: {{kind: openai, base_url: '{far.url}/v1', accepts: [top_k, reasoning_content, priority]}}",
                f"  anthropic: {{kind: anthropic, base_url: '{far.url}'}}",
                "  second: {kind: sidecar, options: [--engine, fake]}",
                "models:",
                *routes,
                f"  second-says: [{{provider: second, model: '{SAYS}'}}]",
            ]
        )
    )
    with gateway_process("--engine", "fake", "--providers", str(file)) as process:
        yield process


@pytest.fixture
def client(near: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{near.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def claude(near: GatewayProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=near.url, api_key="none", max_retries=0) as made:
        yield made


@each_kind
def test_openai_s_package_has_reasoning_text_and_usage(client: openai.OpenAI, kind: str) -> None:
    answer = client.chat.completions.create(model=f"{kind}-says", messages=HELLO)
    message = answer.choices[0].message
    assert (message.content, message.model_extra) == ("Good day", {"reasoning_content": "why"})
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens == len("<think>why</think>Good day")
    stream = client.chat.completions.create(
        model=f"{kind}-says", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == "Good day"
    assert chunks[-1].usage == answer.usage


@each_kind
def test_openai_s_package_calls_a_tool_and_sends_its_result(client: openai.OpenAI, kind: str) -> None:
    answer = client.chat.completions.create(model=f"{kind}-calls", messages=HELLO, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "tool_calls"
    called = (answer.choices[0].message.tool_calls or [])[0]
    assert called.type == "function"
    assert (called.function.name, called.function.arguments) == ("get_weather", '{"city": "Paris"}')
    turn: ChatCompletionMessageParam = {
        "role": "assistant",
        "tool_calls": [
            {
                "id": called.id,
                "type": "function",
                "function": {"name": called.function.name, "arguments": called.function.arguments},
            }
        ],
    }
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": called.id, "content": "rain"}
    again = client.chat.completions.create(model=f"{kind}-says", messages=[*HELLO, turn, result], tools=[WEATHER])
    assert again.choices[0].message.content == "Good day"


@each_kind
def test_anthropic_s_package_has_blocks_of_each_kind(claude: anthropic.Anthropic, kind: str) -> None:
    with claude.messages.stream(
        model=f"{kind}-calls",
        max_tokens=100,
        messages=[{"role": "user", "content": "Hello"}],
        tools=[{"name": "get_weather", "input_schema": PARAMETERS}],
    ) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "tool_use"]
    assert message.stop_reason == "tool_use"
    used = message.content[1]
    assert used.type == "tool_use"
    assert used.input == {"city": "Paris"}
    assert message.usage.output_tokens > 0
    assert message.usage.input_tokens > 0


@each_kind
def test_a_response_is_continued_through_both(client: openai.OpenAI, kind: str) -> None:
    first = client.responses.create(model=f"{kind}-says", input="one")
    second = client.responses.create(model=f"{kind}-says", input="two", previous_response_id=first.id)
    assert second.output_text == "Good day"
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


@each_kind
def test_an_answer_that_breaks_off_far_away_is_an_error_here(client: openai.OpenAI, kind: str) -> None:
    with pytest.raises(openai.APIError, match="broke off"):
        for _ in client.chat.completions.create(model=f"{kind}-stumbles", messages=HELLO, stream=True):
            pass


def test_parameters_and_priority_reach_a_gateway_that_accepts_them(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="openai-says",
        messages=HELLO,
        extra_body={"top_k": 3},
        extra_headers={"x-mlx-sidecar-priority": "high"},
    )
    assert answer.choices[0].message.content == "Good day"


def test_a_further_sidecar_answers(client: openai.OpenAI, near: GatewayProcess) -> None:
    answer = client.chat.completions.create(model="second-says", messages=HELLO, logprobs=True, top_logprobs=1)
    assert answer.choices[0].message.content == "Good day"
    kept = client.responses.create(model="second-says", input="one")
    assert client.responses.create(model="second-says", input="two", previous_response_id=kept.id).output_text
    _, figures = near.get("/stats")
    assert figures["providers"]["second"]["requests"] == 3
    assert figures["providers"]["second"]["tokens"][""]["completion"] > 0


def test_models_of_the_table_are_listed(client: openai.OpenAI, near: GatewayProcess) -> None:
    assert "anthropic-says" in [model.id for model in client.models.list()]
    assert near.get("/health/ready")[0] == 200

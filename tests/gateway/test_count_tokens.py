"""``count_tokens`` says what the usage of the same message will say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.gateway_process import PATIENCE_S, GatewayProcess, gateway_process

Body = dict[str, Any]

# Some are control tokens of the model, or look like what the gateway or a template writes and leaves out.
_PIECES = ["a", "sea", "\n", " ", "<|im_end|>", "<think>", "</think>", "<tool_call>", "é", "🙂", '"', "\\u0000", "7"]
_PIECES += ["x-anthropic-billing-header: cc_version=1;"]
texts = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=6).map(" ".join)
texts |= st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
blocks = st.builds(lambda text: {"type": "text", "text": text}, texts)
contents = texts | st.lists(blocks, min_size=1, max_size=3)
kinds = st.sampled_from([{"type": "string"}, {"type": "integer", "minimum": 0}, {"enum": ["a", "b"]}])
schemas = st.builds(
    lambda properties: {"type": "object", "properties": properties},
    st.dictionaries(st.sampled_from(["path", "n", "é"]), kinds, max_size=3),
)
tools = st.builds(
    lambda name, description, schema: {"name": name, "description": description, "input_schema": schema},
    st.sampled_from(["look", "count", "read_file"]),
    texts,
    schemas,
)
inputs = st.dictionaries(st.sampled_from(["path", "n"]), texts | st.integers(0, 99), max_size=2)


@st.composite
def turns(draw: st.DrawFn) -> list[Body]:
    """Turns that lead to one of the user: questions with answers of text, reasoning or a call with its result."""
    said: list[Body] = []
    for number in range(draw(st.integers(0, 2))):
        said.append({"role": "user", "content": draw(contents)})
        thinking = [{"type": "thinking", "thinking": draw(texts), "signature": ""}] if draw(st.booleans()) else []
        text = draw(st.lists(blocks, max_size=2))
        if draw(st.booleans()):
            id_ = f"call{number}"
            use = {"type": "tool_use", "id": id_, "name": "look", "input": draw(inputs)}
            said.append({"role": "assistant", "content": [*thinking, *text, use]})
            result: Body = {"type": "tool_result", "tool_use_id": id_, "content": draw(contents)}
            if draw(st.booleans()):
                result["is_error"] = True
            said.append({"role": "user", "content": [result, *draw(st.lists(blocks, max_size=1))]})
        else:
            said.append({"role": "assistant", "content": [*thinking, *text, draw(blocks)]})
    return [*said, {"role": "user", "content": draw(contents)}]


bodies = st.fixed_dictionaries(
    {"messages": turns()},
    optional={
        "system": contents,
        "tools": st.lists(tools, min_size=1, max_size=3, unique_by=lambda tool: tool["name"]),
        "thinking": st.sampled_from(
            [{"type": "adaptive"}, {"type": "disabled"}, {"type": "enabled", "budget_tokens": 1024}]
        ),
    },
)


class Client:
    """One connection to a gateway, and the least that speaks over it."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._connection = HTTPConnection(gateway.url.removeprefix("http://"), timeout=PATIENCE_S)

    def post(self, path: str, body: Body) -> Body:
        """The answer, which must be a success."""
        self._connection.request("POST", path, json.dumps(body))
        response = self._connection.getresponse()
        answer: Body = json.load(response)
        assert response.status == 200, answer
        return answer

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with gateway_process("--model", "small=pocket") as gateway:
        made = Client(gateway)
        yield made
        made.close()


@settings(max_examples=100)
@given(body=bodies)
def test_it_is_the_prompt_that_a_message_is_answered_from(client: Client, body: Body) -> None:
    body = {"model": "small", **body}
    counted = client.post("/v1/messages/count_tokens", body)["input_tokens"]
    usage = client.post("/v1/messages", {**body, "max_tokens": 1})["usage"]
    prompt = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert counted == sum(usage[part] for part in prompt)

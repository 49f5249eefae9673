"""Parameters of the gateway's owner hold where a request says nothing of them, on every surface, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from mlx_sidecar.cli.failures import Refused
from mlx_sidecar.cli.gateway_defaults import defaults_of
from tests.gateway.endings import Spoken, streaming_routes
from tests.gateway.in_memory import InMemory, in_memory

TEXT = "One line.\nAnother.\nA third."
MODEL = f"fake?text={quote(TEXT)}"
ORDINARY = {"stop", "end_turn", "completed"}
CUT = {"length", "max_tokens", "max_output_tokens", "incomplete"}


@pytest.fixture(scope="module")
async def memory(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory(defaults={"stop": ["\n"], "max_tokens": 20, "temperature": 0, "seed": 7}) as made:
        yield made


async def ask(memory: InMemory, path: str, body: Any) -> dict[str, Any]:
    visit = await memory.visit(path, body).run()
    answer: dict[str, Any] = json.loads(visit.body)
    assert visit.status == 200, answer
    return answer


@pytest.mark.anyio
@pytest.mark.parametrize("spoken", streaming_routes(), ids=lambda spoken: spoken.path)
async def test_a_text_of_the_owners_ends_an_answer_as_the_end_of_its_turn_does(
    memory: InMemory, spoken: Spoken
) -> None:
    visit = await memory.visit(spoken.path, spoken.body(MODEL)).run()
    ended = spoken.ended(visit.status, visit.body)
    assert (ended.text, ended.error) == ("One line.", None)
    assert ended.reason in ORDINARY
    assert b'stop_sequence"' not in visit.body.replace(b'"stop_sequence":null', b"")


@pytest.mark.anyio
async def test_a_request_has_its_own_values(memory: InMemory) -> None:
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    for limit in ("max_tokens", "max_completion_tokens"):
        answer = await ask(memory, "/v1/chat/completions", {**chat, "stop": "third", limit: 1000})
        assert answer["choices"][0]["message"]["content"] == "One line.\nAnother.\nA "
    answer = await ask(memory, "/v1/messages", {**chat, "max_tokens": 1000, "stop_sequences": ["third"]})
    assert (answer["content"][0]["text"], answer["stop_reason"]) == ("One line.\nAnother.\nA ", "stop_sequence")
    answer = await ask(
        memory, "/api/chat", {**chat, "stream": False, "options": {"stop": ["third"], "num_predict": 1000}}
    )
    assert answer["message"]["content"] == "One line.\nAnother.\nA "


@pytest.mark.anyio
async def test_a_response_tells_the_values_that_it_had(memory: InMemory) -> None:
    body = {"model": "fake?tokens=50", "input": "x", "stop": "never"}
    answer = await ask(memory, "/v1/responses", body)
    assert (answer["temperature"], answer["max_output_tokens"], answer["status"]) == (0, 20, "incomplete")
    answer = await ask(memory, "/v1/responses", {**body, "temperature": 0.5, "max_output_tokens": 1000})
    assert (answer["temperature"], answer["max_output_tokens"], answer["status"]) == (0.5, 1000, "completed")


def test_they_are_read_from_words_of_the_command_line() -> None:
    words = ["temperature=0", "stop=\n", "stop=a=b", "max_tokens=500", "top_p=0.9"]
    assert defaults_of(words) == {"temperature": 0, "stop": ["\n", "a=b"], "max_tokens": 500, "top_p": 0.9}
    assert defaults_of([]) == {}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["temperature"], "is not NAME=VALUE"),
        (["warmth=1"], "is not NAME=VALUE"),
        (["messages=[]"], "is not NAME=VALUE"),
        (["temperature=hot"], "temperature"),
        (["temperature=-1"], "temperature"),
        (["max_tokens=0.5"], "max_tokens"),
        (["stop="], "stop"),
        (["seed=1", "seed=2"], "there twice"),
    ],
)
def test_a_wrong_one_keeps_the_gateway_from_starting(words: list[str], told: str) -> None:
    with pytest.raises(Refused, match=told):
        defaults_of(words)

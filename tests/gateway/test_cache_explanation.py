"""A request may ask where its prompt came from; SDKs hand the explanation on, or do not mind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import ollama
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar_client.protocol.generate_result import CacheExplanation
from mlx_sidecar_gateway.core.cache_explanation import explained, with_member
from mlx_sidecar_gateway.core.exchange import Exchange
from mlx_sidecar_gateway.core.keys import read_keys
from mlx_sidecar_gateway.surfaces.surface import GenerateRoute, Generation, Question
from mlx_sidecar_gateway.surfaces.table import SURFACES
from tests.gateway.answers import answers, result
from tests.gateway.support import HELLO, Running, ask, running

MODEL = "fake?text=Good+day"
ASKED = {"x-mlx-sidecar-explain-cache": "1"}
HEADER = "x-mlx-sidecar-cache"
FOUND = {
    "prompt_tokens": 9,
    "known_tokens": 4,
    "because": "changed_text",
    "text_before": "é\r\n",
    "text_here": "\x7fours",
    "text_known": "theirs",
    "summary": "In short.",
}
ROUTES = [route for surface in SURFACES for route in surface.routes if isinstance(route, GenerateRoute)]


async def _nothing(*_: Any) -> Any: ...


def exchange() -> Exchange:
    return Exchange({"type": "http", "method": "POST", "path": "/", "headers": []}, _nothing, _nothing)


def generation(route: GenerateRoute) -> Generation:
    """A streamed generation of each route."""
    asked = {"messages": HELLO, "prompt": "Hello", "input": "Hello"}
    body = {"model": "m", "max_tokens": 9, "stream": True, **asked}
    taken = {name: value for name, value in body.items() if name in route.parameters.honoured}
    read = route.read(Question("id", 0, "m", body=taken))
    assert isinstance(read, Generation)
    return read


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
@settings(max_examples=25)
@given(answer=answers(), is_alone=st.booleans())
def test_a_stream_is_the_same_but_for_a_member_of_its_last_object(
    route: GenerateRoute, answer: Any, is_alone: bool
) -> None:
    events, end = answer
    end = end.model_copy(update={"cache": CacheExplanation.model_validate(FOUND)})
    plain = generation(route)
    told = explained(plain, exchange(), is_alone=is_alone).encoder()
    usual = plain.encoder()
    assert [told.delta(event) for event in events] == [usual.delta(event) for event in events]
    assert told.ping() == usual.ping()
    before, after = usual.end(end).splitlines(), told.end(end).splitlines()
    (changed,) = [number for number, line in enumerate(after) if line != before[number]]
    was, now = (json.loads(lines[changed].removeprefix(b"data: ")) for lines in (before, after))
    expected = {name: value for name, value in FOUND.items() if is_alone or name != "text_known"}
    assert now == {**was, "cache": expected}
    assert not [line for line in after[changed + 1 :] if b"{" in line]


def test_a_whole_answer_has_it_in_a_header_of_plain_ascii() -> None:
    one = exchange()
    found = result().model_copy(update={"cache": CacheExplanation.model_validate(FOUND)})
    plain = generation(ROUTES[0])
    assert explained(plain, one, is_alone=True).whole(found) == plain.whole(found)
    assert one.extra[HEADER].isascii()
    assert one.extra[HEADER].isprintable()
    assert json.loads(one.extra[HEADER]) == FOUND


def test_an_end_without_an_object_is_a_bug_of_ours() -> None:
    with pytest.raises(ValueError, match="no object"):
        with_member(b"data: [DONE]\n\n", {})


# The clients.


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Running]:
    async with running(keys=read_keys("me key")) as one:
        yield one


def explanation_of(headers: Any) -> Any:
    return json.loads(headers[HEADER])["because"]


@pytest.mark.anyio
async def test_openais_client_has_it_in_the_last_chunk_and_in_the_headers(gateway: Running) -> None:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="key") as client:
        messages: Any = HELLO
        whole = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=messages, extra_headers=ASKED
        )
        assert explanation_of(whole.headers) == "uncacheable"
        options: Any
        for options in ({}, {"include_usage": True}):
            stream = await client.chat.completions.create(
                model=MODEL,
                messages=messages,
                stream=True,
                stream_options=options,
                extra_headers=ASKED,
            )
            chunks = [chunk async for chunk in stream]
            assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == "Good day"
            assert (chunks[-1].model_extra or {})["cache"]["because"] == "uncacheable"
        async with client.chat.completions.stream(model=MODEL, messages=messages, extra_headers=ASKED) as helper:
            completion = await helper.get_final_completion()
        assert completion.choices[0].message.content == "Good day"


@pytest.mark.anyio
async def test_anthropics_client_does_not_mind(gateway: Running) -> None:
    async with anthropic.AsyncAnthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key="key") as client:
        body: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": HELLO, "extra_headers": ASKED}
        whole = await client.messages.with_raw_response.create(**body)
        assert explanation_of(whole.headers) == "uncacheable"
        async with client.messages.stream(**body) as stream:
            assert await stream.get_final_text() == "Good day"
        events = [event async for event in await client.messages.create(**body, stream=True)]
        told = [event.model_extra["cache"] for event in events if event.model_extra and "cache" in event.model_extra]
        assert [each["because"] for each in told] == ["uncacheable"]


@pytest.mark.anyio
async def test_ollamas_client_does_not_mind(gateway: Running) -> None:
    headers = {**ASKED, "authorization": "Bearer key"}
    async with ollama.AsyncClient(f"http://127.0.0.1:{gateway.port}", headers=headers) as client:
        pieces = [piece async for piece in await client.chat(MODEL, HELLO, stream=True)]
    assert "".join(piece.message.content or "" for piece in pieces) == "Good day"
    assert pieces[-1].done


@pytest.mark.anyio
async def test_it_is_not_told_to_those_who_do_not_ask(gateway: Running) -> None:
    body = {"model": MODEL, "messages": HELLO}
    key = "x-api-key: key"
    assert HEADER not in (await ask(gateway.port, "/v1/chat/completions", body, headers=[key])).headers
    streamed = await ask(gateway.port, "/v1/chat/completions", {**body, "stream": True}, headers=[key])
    assert b'"cache"' not in streamed.body

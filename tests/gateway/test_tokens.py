"""``tokenize`` and ``detokenize`` in the shapes of llama.cpp's and vLLM's servers; and paths that nobody serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mlx_sidecar_gateway.core.unserved import because_not_served
from tests.gateway.support import HELLO, Response, Running, ask, running

pytestmark = pytest.mark.anyio

TEXT = "Grüß Gott"
BYTES = list(TEXT.encode())


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Running]:
    async with running() as one:
        yield one


async def post(gateway: Running, path: str, model: str | None = "fake", **body: Any) -> Response:
    named = {} if model is None else {"model": model}
    return await ask(gateway.port, path, {**named, **body})


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_llama_cpps_shape_is_tokens_and_back(gateway: Running, prefix: str) -> None:
    assert (await post(gateway, f"{prefix}/tokenize", content=TEXT)).json == {"tokens": BYTES}
    pieces = (await post(gateway, f"{prefix}/tokenize", content="Hi", with_pieces=True)).json
    assert pieces == {"tokens": [{"id": 72, "piece": "H"}, {"id": 105, "piece": "i"}]}
    assert (await post(gateway, f"{prefix}/detokenize", tokens=BYTES)).json["content"] == TEXT


async def test_vllms_shape_counts_and_tells_the_context(gateway: Running) -> None:
    await gateway.sidecar.load("fake?context=4321")
    told = (await post(gateway, "/tokenize", "fake?context=4321", prompt="Hi", return_token_strs=True)).json
    assert told == {"count": 2, "max_model_len": 4321, "tokens": [72, 105], "token_strs": ["H", "i"]}
    chat = (await post(gateway, "/tokenize", messages=HELLO)).json
    rendered = await gateway.sidecar.render("fake", HELLO)
    assert (chat["tokens"], chat["count"]) == (rendered.tokens, len(rendered.tokens))
    closed = await gateway.sidecar.render("fake", HELLO, add_generation_prompt=False)
    told = (await post(gateway, "/tokenize", messages=HELLO, add_generation_prompt=False)).json
    assert (told["tokens"], told["max_model_len"]) == (closed.tokens, None)
    assert (await post(gateway, "/detokenize", tokens=[72, 105])).json["prompt"] == "Hi"
    not_loaded = (await post(gateway, "/tokenize", "pocket", prompt="Hi")).json
    assert not_loaded["max_model_len"] == (await gateway.sidecar.local_list("pocket")).models[0].context_length


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "content"),
        ("/tokenize", {"content": "a", "prompt": "a"}, "prompt"),
        ("/tokenize", {"content": 1}, "content"),
        ("/tokenize", {"content": "a", "add_special": "yes"}, "add_special"),
        ("/tokenize", {"content": "a", "return_token_strs": True}, "return_token_strs"),
        ("/tokenize", {"prompt": "a", "with_pieces": True}, "with_pieces"),
        ("/tokenize", {"messages": "a"}, "messages"),
        ("/tokenize", {"messages": HELLO, "return_token_strs": True}, "return_token_strs"),
        ("/tokenize", {"messages": HELLO, "continue_final_message": True}, "continue_final_message"),
        ("/tokenize", {"content": "a", "nonsense": 1}, "nonsense"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [1.5]}, "tokens"),
        ("/detokenize", {"tokens": [72, -1]}, "tokens.1"),
        ("/detokenize", {}, "tokens"),
    ],
)
async def test_what_does_not_fit_is_refused_by_its_name(
    gateway: Running, path: str, body: dict[str, Any], param: str
) -> None:
    refused = await post(gateway, path, **body)
    assert (refused.status, refused.json["error"]["param"]) == (400, param), refused.json


async def test_a_model_is_needed_where_there_is_no_default(gateway: Running) -> None:
    assert (await post(gateway, "/tokenize", None, content="a")).json["error"]["param"] == "model"


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/embedding", "embeddings are"),
        ("/v1/reranking", "reranking is"),
        ("/v1/images/generations", "images are"),
        ("/v1/audio/speech", "speech and transcription are"),
        ("/v1/files", "files are"),
        ("/v1/files/file-1/content", "files are"),
        ("/v1/batches", "batches are"),
        ("/v1/assistants", "assistants are"),
        ("/v1/threads/t/runs", "assistants are"),
        ("/v1/fine_tuning/jobs", "fine-tuning is"),
        ("/v1/messages/batches", "batches of messages are"),
        ("/v1/responses/1/items", "this path is"),
        ("/v1/filesystem", "this path is"),
        ("/v1", "this path is"),
        ("/", "this path is"),
    ],
)
def test_what_is_not_served_is_named_with_what_is(path: str, what: str) -> None:
    sentence = f"{path}: {what} not served here, but /responses, /api/chat are"
    assert because_not_served(path, ("/responses", "/api/chat")) == sentence


async def test_it_is_told_in_the_words_of_the_surface_that_asks(gateway: Running) -> None:
    openai = await ask(gateway.port, "/v1/images/generations", {"prompt": "a"})
    assert (openai.status, openai.json["error"]["code"]) == (404, "not_served")
    assert "images" in openai.json["error"]["message"]
    anthropic = await ask(gateway.port, "/v1/messages/batches", {}, headers=["anthropic-version: 2023-06-01"])
    assert (anthropic.status, anthropic.json["error"]["type"]) == (404, "not_found_error")

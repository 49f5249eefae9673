"""Embeddings and reranking over HTTP: OpenAI's and Ollama's own packages, and Cohere's shape."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import openai
import pytest
from ollama import Client, ResponseError

from tests.gateway.gateway_process import GatewayProcess, gateway_process

MODEL = "fake?dimensions=8"


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    with gateway_process("--engine", "fake") as process:
        yield process


@pytest.fixture(scope="module")
def client(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def post(gateway: GatewayProcess, path: str, body: object, **headers: str) -> Any:
    request = urllib.request.Request(
        gateway.url + path, json.dumps(body).encode(), {"content-type": "application/json", **headers}
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def fault(gateway: GatewayProcess, path: str, body: object, **headers: str) -> tuple[int, Any]:
    with pytest.raises(HTTPError) as caught:
        post(gateway, path, body, **headers)
    with caught.value as error:
        return error.code, json.load(error)


def test_openais_client_gets_the_same_vectors_as_base64_and_as_numbers(client: openai.OpenAI) -> None:
    texts = ["a stone", "a river"]
    packed = client.embeddings.create(model=MODEL, input=texts)  # it asks for base64 by itself
    plain = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    assert [each.embedding for each in packed.data] == [each.embedding for each in plain.data]
    assert [each.index for each in plain.data] == [0, 1]
    assert plain.usage.prompt_tokens == plain.usage.total_tokens == sum(map(len, texts))
    one = client.embeddings.create(model=MODEL, input="a stone", dimensions=3)
    assert len(one.data[0].embedding) == 3
    tokens = client.embeddings.create(model=MODEL, input=list(b"a stone"))
    assert tokens.data[0].embedding == plain.data[0].embedding


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": [""]}, "input.0"),
        ({"input": ""}, "input"),
        ({"input": 3}, "input"),
        ({"dimensions": 99}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"pooling": "middle"}, "pooling"),
        ({"colour": "red"}, "colour"),
        ({"input": ["x", "x" * 17]}, "input.1"),
        ({"input": "x" * 17}, "input"),
        ({"input": [1] * 17}, "input"),
        ({"input": [7, 999]}, "input"),
        ({"input": [[7], [999]]}, "input.1"),
        ({"input": ["x", "cut \ud83d"]}, "input.1"),
    ],
    ids=ascii,
)
def test_errors_name_the_field(gateway: GatewayProcess, more: dict[str, Any], param: str) -> None:
    model = "fake?context=16&dimensions=8"
    status, body = fault(gateway, "/v1/embeddings", {"model": model, "input": ["x"], **more})
    assert status == 400
    assert body["error"]["param"] == param
    assert body["error"]["message"].startswith((f"{param}: ", f"{param} has "))


@pytest.mark.parametrize(
    ("path", "more", "param"),
    [
        ("embed", {"input": "x" * 17, "truncate": False}, "input"),
        ("embed", {"input": ["x", "x" * 17], "truncate": False}, "input.1"),
        ("embed", {"input": ["x", ""]}, "input.1"),
        ("embed", {"input": ""}, "input"),
        ("embeddings", {"prompt": ""}, "prompt"),
        ("embeddings", {"prompt": "cut \ud83d"}, "prompt"),
    ],
    ids=ascii,
)
def test_errors_of_ollama_name_the_field(gateway: GatewayProcess, path: str, more: dict[str, Any], param: str) -> None:
    status, body = fault(gateway, f"/api/{path}", {"model": "fake?context=16&dimensions=8", **more})
    assert (status, body["param"]) == (400, param), body
    assert body["error"].startswith((f"{param}: ", f"{param} has "))


def test_a_document_that_is_too_long_is_named(gateway: GatewayProcess) -> None:
    body = {"model": "fake?context=16", "query": "x", "documents": ["a fish", "x" * 20]}
    assert fault(gateway, "/v1/rerank", body)[1]["error"]["param"] == "documents.1"


def test_a_header_bounds_the_time(gateway: GatewayProcess) -> None:
    asked = {"model": "fake?prefill_ms=60000", "input": "x"}
    status, body = fault(gateway, "/v1/embeddings", asked, **{"x-mlx-sidecar-deadline-s": "0.1"})
    assert status in (503, 504)
    assert "deadline" in body["error"]["message"] or body["error"]["code"] == "deadline_passed"


def test_documents_are_reranked_in_the_shape_of_cohere_and_jina(gateway: GatewayProcess) -> None:
    documents = ["a fish", {"text": "the red stone"}]
    body = {"model": MODEL, "query": "red stone ", "documents": documents, "return_documents": True, "top_n": 1}
    for path in ("/v1/rerank", "/rerank"):
        answer = post(gateway, path, body)
        assert [item["index"] for item in answer["results"]] == [1]
        assert answer["results"][0]["document"] == {"text": "the red stone"}
    assert fault(gateway, "/v1/rerank", {**body, "documents": [{"title": "x"}]})[1]["error"]["param"] == "documents"


def test_ollamas_client_embeds_one_text_many_and_none(gateway: GatewayProcess) -> None:
    with Client(host=gateway.url) as client:
        _embeds(client)


def _embeds(client: Client) -> None:
    many = client.embed(MODEL, ["a stone", "a river"])
    assert len(many.embeddings) == 2
    assert many.prompt_eval_count == len("a stonea river")
    assert client.embed(MODEL, "a stone").embeddings == many.embeddings[:1]
    assert client.embed(MODEL, []).embeddings == []
    assert client.embeddings(MODEL, "a stone").embedding == many.embeddings[0]
    short = "fake?context=16&dimensions=8"
    assert len(client.embed(short, "x" * 40, keep_alive="1m").embeddings[0]) == 8  # cut, as Ollama does
    with pytest.raises(ResponseError, match="40 tokens"):
        client.embed(short, "x" * 40, truncate=False)

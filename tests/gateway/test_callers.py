"""The holders of keys, each with models, quotas and a priority of its own, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from mlx_sidecar_gateway.core.keys import read_keys
from mlx_sidecar_gateway.surfaces.surface import Offer
from tests.gateway.support import HELLO, Response, Running, ask, asking, running

pytestmark = pytest.mark.anyio

KEYS = """
all     k-all
one     k-one     models=b
slow    k-slow    rpm=2
slower  k-slower  rpm=2
slowest k-slowest rpm=1
few     k-few     tpm=300
fewer   k-fewer   tpm=50
left    k-left    tpm=1000
low     k-low     priority=low max-priority=normal
"""
MODELS = (
    Offer("a", "fake?text=from+a"),
    Offer("b", "fake?text=from+b"),
    Offer("long", "fake?tokens=500&context=20000"),
    Offer("endless", "fake?tokens=1000000&delay_ms=1&context=2000000"),
)


@dataclass
class Clock:
    """A clock that goes when it is told to."""

    now_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns


CLOCK = Clock()


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Running]:
    async with running(keys=read_keys(KEYS), models=MODELS, clock_ns=CLOCK) as one:
        yield one


async def chat(gateway: Running, key: str, model: str | None = "a", *headers: str, **more: Any) -> Response:
    """The whole answer of a chat, after which the gateway has nothing to do."""
    body = {"messages": HELLO, **({} if model is None else {"model": model}), **more}
    response = await ask(gateway.port, "/v1/chat/completions", body, headers=[f"x-api-key: {key}", *headers])
    await gateway.gateway.idle()
    return response


async def get(gateway: Running, key: str, path: str, *headers: str) -> Any:
    return (await ask(gateway.port, path, headers=[f"x-api-key: {key}", *headers])).json


# Models.


async def test_a_key_sees_its_models_alone_in_each_list(gateway: Running) -> None:
    assert [each["id"] for each in (await get(gateway, "k-one", "/v1/models"))["data"]] == ["b"]
    anthropic = await get(gateway, "k-one", "/v1/models", "anthropic-version: 2023-06-01")
    assert [each["id"] for each in anthropic["data"]] == ["b"]
    assert [each["name"] for each in (await get(gateway, "k-one", "/api/tags"))["models"]] == ["b"]
    assert [each["name"] for each in (await get(gateway, "k-one", "/api/ps"))["models"]] == ["b"]
    assert len((await get(gateway, "k-all", "/api/ps"))["models"]) == len(MODELS)


async def test_another_model_is_not_there_for_it_on_any_surface(gateway: Running) -> None:
    assert (await chat(gateway, "k-one", "b")).json["choices"][0]["message"]["content"] == "from b"
    refused = await chat(gateway, "k-one", "a")
    assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")
    for path, body in [
        ("/v1/messages", {"model": "a", "messages": HELLO, "max_tokens": 5}),
        ("/v1/messages/count_tokens", {"model": "a", "messages": HELLO}),
        ("/api/chat", {"model": "a", "messages": HELLO}),
        ("/api/show", {"model": "a"}),
        ("/tokenize", {"model": "a", "content": "x"}),
    ]:
        assert (await ask(gateway.port, path, body, headers=["x-api-key: k-one"])).status == 404
    assert (await get(gateway, "k-one", "/v1/models/a"))["error"]["code"] == "model_not_found"


async def test_a_draft_is_a_model_too(gateway: Running) -> None:
    for draft in ("a", "/etc"):
        refused = await chat(gateway, "k-one", "b", speculation={"draft": draft})
        assert (refused.status, refused.json["error"]["param"]) == (404, "speculation.draft")


async def test_the_default_model_is_the_first_that_the_key_may_name(gateway: Running) -> None:
    assert (await chat(gateway, "k-all", None)).json["choices"][0]["message"]["content"] == "from a"
    assert (await chat(gateway, "k-one", None)).json["choices"][0]["message"]["content"] == "from b"


# Requests a minute.


async def test_a_request_beyond_the_quota_is_told_when_to_come_and_is_taken_then(gateway: Running) -> None:
    for left in (1, 0):
        taken = await chat(gateway, "k-slow")
        assert taken.status == 200
        assert taken.headers["x-ratelimit-limit-requests"] == "2"
        assert taken.headers["x-ratelimit-remaining-requests"] == str(left)
        assert taken.headers["x-ratelimit-reset-requests"] == f"{(2 - left) * 30}.000s"
    refused = await chat(gateway, "k-slow")
    assert (refused.status, refused.headers["retry-after"], refused.headers["retry-after-ms"]) == (429, "30", "30000")
    assert refused.headers["x-should-retry"] == "true"
    assert refused.json["error"]["type"] == "rate_limit_error"
    assert refused.json["error"]["code"] == "rate_limit_exceeded"
    assert "'slow'" in refused.json["error"]["message"]
    CLOCK.now_ns += 30 * 10**9 - 1
    assert (await chat(gateway, "k-slow")).status == 429
    CLOCK.now_ns += 1
    assert (await chat(gateway, "k-slow")).status == 200
    assert (await chat(gateway, "k-all")).status == 200


async def test_each_surface_has_its_own_words_for_it(gateway: Running) -> None:
    header = ["x-api-key: k-slowest"]
    body = {"model": "a", "messages": HELLO, "max_tokens": 5}
    taken = await ask(gateway.port, "/v1/messages", body, headers=header)
    assert (taken.status, taken.headers["anthropic-ratelimit-requests-remaining"]) == (200, "0")
    assert taken.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    refused = await ask(gateway.port, "/v1/messages", body, headers=header)
    assert (refused.status, refused.json["error"]["type"]) == (429, "rate_limit_error")
    assert refused.headers["retry-after"] == "60"
    ollama = await ask(gateway.port, "/api/chat", {"model": "a", "messages": HELLO}, headers=header)
    assert (ollama.status, ollama.json["kind"]) == (429, "rate_limited")


async def test_what_is_refused_for_another_reason_and_what_only_looks_counts_for_nothing(gateway: Running) -> None:
    for _ in range(3):
        assert (await chat(gateway, "k-slower", "nobody")).status == 404
        assert (await chat(gateway, "k-slower", "a", nonsense=1)).status == 400
        assert "data" in await get(gateway, "k-slower", "/v1/models")
    counted = await ask(gateway.port, "/tokenize", {"model": "a", "content": "x"}, headers=["x-api-key: k-slower"])
    assert counted.headers["x-ratelimit-remaining-requests"] == "1"


# Tokens a minute.


async def test_tokens_are_charged_as_they_were_used_and_leave_a_debt(gateway: Running) -> None:
    answer = await chat(gateway, "k-few", "long")
    used = answer.json["usage"]["total_tokens"]
    assert used > 500
    refused = await chat(gateway, "k-few", "long")
    assert refused.status == 429
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
    # The debt and one token more, at 300 a minute.
    assert int(refused.headers["retry-after-ms"]) == (used - 300 + 1) * 200
    CLOCK.now_ns += int(refused.headers["retry-after-ms"]) * 10**6
    assert (await chat(gateway, "k-few", "long")).status == 200


async def test_an_answer_that_is_shorter_than_was_thought_is_given_back(gateway: Running) -> None:
    answer = await chat(gateway, "k-left", "a", user="x" * 2000)
    left = 1000 - answer.json["usage"]["total_tokens"]
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < left
    counted = await ask(gateway.port, "/tokenize", {"model": "a", "content": "x"}, headers=["x-api-key: k-left"])
    assert counted.headers["x-ratelimit-remaining-tokens"] == str(left)


async def test_a_client_that_leaves_is_charged_for_what_it_had_got(gateway: Running) -> None:
    body = {"model": "endless", "messages": HELLO, "stream": True}
    async with asking(gateway.port, "/v1/chat/completions", body, headers=["x-api-key: k-fewer"]) as request:
        await request.until(b'"content":"', 60)
    await gateway.gateway.idle()
    assert (await chat(gateway, "k-fewer")).status == 429


# Priorities.


async def test_a_priority_beyond_the_keys_highest_is_refused_by_its_header(gateway: Running) -> None:
    refused = await chat(gateway, "k-low", "a", "x-mlx-sidecar-priority: high")
    assert refused.status == 403
    assert refused.json["error"]["type"] == "permission_error"
    assert refused.json["error"]["param"] == "x-mlx-sidecar-priority"
    assert (await chat(gateway, "k-low", "a", "x-mlx-sidecar-priority: normal")).status == 200
    assert (await chat(gateway, "k-low")).status == 200
    wrong = await chat(gateway, "k-all", "a", "x-mlx-sidecar-deadline-s: never")
    assert (wrong.status, wrong.json["error"]["param"]) == (400, "x-mlx-sidecar-deadline-s")

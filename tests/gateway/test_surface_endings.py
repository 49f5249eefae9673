"""Streams of responses, and for Anthropic's and Ollama's clients, end in a whole sequence or in an error, not both."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import anyio
import pytest

from tests.gateway.support import HELLO, Response, Running, ask, asking, running

pytestmark = pytest.mark.anyio

Name = Literal["anthropic", "ollama", "responses"]
PATHS: dict[Name, str] = {"anthropic": "/v1/messages", "ollama": "/api/chat", "responses": "/v1/responses"}
FIRST_TEXT: dict[Name, bytes] = {
    "anthropic": b'"text_delta","text":"',
    "ollama": b'"content":"',
    "responses": b'"delta":"',
}
TWENTY = "twenty letters here."
ENDLESS = "fake?tokens=1000000&delay_ms=5"

each_surface = pytest.mark.parametrize("surface", ["anthropic", "ollama", "responses"])


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Running]:
    async with running() as one:
        yield one


def body(surface: Name, model: str) -> dict[str, Any]:
    if surface == "responses":
        return {"model": model, "input": HELLO, "stream": True}
    return {
        "model": model,
        "messages": HELLO,
        "stream": True,
        **({"max_tokens": 10**6} if surface == "anthropic" else {}),
    }


async def answer(gateway: Running, surface: Name, model: str, *headers: str) -> Response:
    return await ask(gateway.port, PATHS[surface], body(surface, model), headers=headers)


def ended(surface: Name, response: Response) -> tuple[str, str | None]:
    """The text of a stream and, where it ended in an error, the kind of that; checks that it ended in one way only."""
    assert response.is_complete
    return {"anthropic": _ended_events, "ollama": _ended_lines, "responses": _ended_response}[surface](response)


def _ended_events(response: Response) -> tuple[str, str | None]:
    told = [json.loads(line[6:]) for line in response.body.decode().splitlines() if line.startswith("data: ")]
    text = "".join(each["delta"].get("text", "") for each in told if each["type"] == "content_block_delta")
    ends = [each for each in told if each["type"] in ("message_delta", "message_stop", "error")]
    assert ends == told[-len(ends) :]
    if [each["type"] for each in ends] == ["message_delta", "message_stop"]:
        return text, None
    (error,) = ends
    assert error["type"] == "error"
    return text, error["error"]["kind"]


def _ended_response(response: Response) -> tuple[str, str | None]:
    told = [json.loads(line[6:]) for line in response.body.decode().splitlines() if line.startswith("data: ")]
    assert [each["sequence_number"] for each in told] == list(range(len(told)))
    text = "".join(each["delta"] for each in told if each["type"] == "response.output_text.delta")
    ends = [each for each in told if each["type"] in ("response.completed", "response.incomplete", "response.failed")]
    (end,) = ends
    assert end is told[-1]
    failed = end["type"] == "response.failed"
    assert ("error" in end) == failed
    return text, end["response"]["error"]["code"] if failed else None


def _ended_lines(response: Response) -> tuple[str, str | None]:
    *pieces, last = [json.loads(line) for line in response.body.splitlines()]
    assert not any(piece["done"] for piece in pieces)
    text = "".join(piece["message"]["content"] for piece in pieces)
    assert ("error" in last) != (last.get("done") is True)
    return text, last.get("kind")


@each_surface
@pytest.mark.parametrize("at", [0, 7, 19])
async def test_a_stream_whose_engine_is_killed_has_the_undisturbed_text(
    gateway: Running, surface: Name, at: int
) -> None:
    response = await answer(gateway, surface, f"fake?text={TWENTY}&crash_after={at}")
    assert ended(surface, response) == (TWENTY, None)


@each_surface
async def test_a_generation_that_fails_at_any_place_ends_in_an_error_behind_its_text(
    gateway: Running, surface: Name
) -> None:
    for at in range(1, 20):
        response = await answer(gateway, surface, f"fake?text={TWENTY}&fail_after={at}&delay_ms=2")
        assert ended(surface, response) == (TWENTY[:at], "internal_error")


@each_surface
async def test_a_generation_that_fails_before_its_text_has_a_status(gateway: Running, surface: Name) -> None:
    # Not streamed, because a ping may come before the failure.
    response = await ask(gateway.port, PATHS[surface], body(surface, "fake?fail_after=0") | {"stream": False})
    assert response.status == 500
    assert "error" in response.json


@each_surface
@pytest.mark.parametrize("at", [0, 7])
async def test_a_poison_request_ends_in_an_error(gateway: Running, surface: Name, at: int) -> None:
    response = await answer(gateway, surface, f"fake?text={TWENTY}&poison_after={at}&delay_ms=50")
    assert ended(surface, response) == (TWENTY[:at], "poison_request")


@each_surface
async def test_a_deadline_ends_in_an_error(gateway: Running, surface: Name) -> None:
    response = await answer(gateway, surface, ENDLESS, "x-mlx-sidecar-deadline-s: 0.5")
    assert ended(surface, response)[1] == "deadline_passed"


@each_surface
async def test_the_end_of_the_gateway_ends_in_an_error(gateway: Running, surface: Name) -> None:
    async with asking(gateway.port, PATHS[surface], body(surface, ENDLESS)) as streamed:
        await streamed.until(FIRST_TEXT[surface])
        gateway.gateway.stop_answers()
        assert ended(surface, await streamed.response())[1] == "shutting_down"
    await gateway.sidecar_is_idle()


@each_surface
async def test_the_death_of_the_whole_sidecar_ends_in_an_error(gateway: Running, surface: Name) -> None:
    async with asking(gateway.port, PATHS[surface], body(surface, ENDLESS)) as streamed:
        await streamed.until(FIRST_TEXT[surface])
        await anyio.run_process(["kill", "-9", str(await gateway.sidecar.process_id())])
        assert ended(surface, await streamed.response())[1] == "engine_lost"
    assert ended(surface, await answer(gateway, surface, "fake?text=again")) == ("again", None)


async def test_an_overloaded_sidecar_has_anthropics_own_status_and_ollamas_usual_one() -> None:
    bound = ("--engine", "fake", "--requests-limit-bytes", "1000")
    async with running(options=bound) as one, asking(one.port, PATHS["ollama"], body("ollama", ENDLESS)) as first:
        await first.until(b'"content":"')
        statuses: dict[Name, int] = {"anthropic": 529, "ollama": 503}
        for surface, status in statuses.items():
            long = {"stream": False, "messages": [{"role": "user", "content": "long " * 1000}]}
            response = await ask(one.port, PATHS[surface], body(surface, "fake") | long)
            assert response.status == status
            assert 1 <= int(response.headers["retry-after"]) <= 60
            assert "error" in response.json

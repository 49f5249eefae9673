"""Every accepted stream ends in exactly one of its whole terminal sequence and an error event."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from mlx_sidecar_gateway.core import answers
from tests.gateway.support import Response, Running, ask, asking, chat, running

pytestmark = pytest.mark.anyio

TWENTY = "twenty letters here."


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Running]:
    async with running() as one:
        yield one


def ends_whole(response: Response) -> bool:
    """Whether a stream ended with its terminal sequence and without an error; checks that it ended in one way only."""
    assert response.is_complete
    whole = response.events[-1:] == ["[DONE]"]
    errors = [chunk for chunk in response.chunks if "error" in chunk]
    reasons = [c for chunk in response.chunks for c in chunk.get("choices", ()) if c.get("finish_reason") is not None]
    assert [whole, bool(errors)] in ([True, False], [False, True])
    assert len(errors) <= 1
    assert len(reasons) == whole
    assert response.events.count("[DONE]") == whole
    if errors:
        assert "error" in response.chunks[-1]
    return whole


async def test_an_answer_ends_with_its_reason_its_usage_and_done(gateway: Running) -> None:
    body = chat("fake?text=Good%20day", stream_options={"include_usage": True})
    response = await ask(gateway.port, "/v1/chat/completions", body)
    assert (response.status, response.headers["content-type"]) == (200, "text/event-stream")
    assert ends_whole(response)
    assert response.text == "Good day"
    *chunks, reason, usage = response.chunks
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert reason["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len("Good day")
    assert all(chunk["usage"] is None for chunk in response.chunks[:-1])


@pytest.mark.parametrize("at", range(0, 21, 4))
async def test_a_stream_whose_engine_is_killed_has_the_undisturbed_text(gateway: Running, at: int) -> None:
    response = await ask(gateway.port, "/v1/chat/completions", chat(f"fake?text={TWENTY}&crash_after={at}"))
    assert ends_whole(response)
    assert response.text == TWENTY


@pytest.mark.parametrize("at", range(0, 20, 4))
async def test_a_generation_that_fails_ends_in_an_error_event_behind_its_text(gateway: Running, at: int) -> None:
    body = chat(f"fake?text={TWENTY}&fail_after={at}&delay_ms=5")
    response = await ask(gateway.port, "/v1/chat/completions", body)
    if response.status == 200:
        assert not ends_whole(response)
        assert response.text == TWENTY[:at]
    else:  # it failed before anything was sent
        assert response.status == 500
        assert response.json["error"]["type"] == "server_error"


@pytest.mark.parametrize("at", [0, 7])
async def test_a_poison_request_ends_in_an_error(gateway: Running, at: int) -> None:
    body = chat(f"fake?text={TWENTY}&poison_after={at}&delay_ms=50")
    response = await ask(gateway.port, "/v1/chat/completions", body)
    assert not ends_whole(response)
    assert response.chunks[-1]["error"]["code"] == "poison_request"
    assert response.text == TWENTY[:at]


async def test_a_deadline_ends_an_answer_with_an_error_and_not_with_a_reason(gateway: Running) -> None:
    body = chat("fake?tokens=1000000&delay_ms=20")
    late = ["x-mlx-sidecar-deadline-s: 0.5"]
    response = await ask(gateway.port, "/v1/chat/completions", body, headers=late)
    assert not ends_whole(response)
    assert response.chunks[-1]["error"]["code"] == "deadline_passed"
    whole = await ask(gateway.port, "/v1/chat/completions", {**body, "stream": False}, headers=late)
    assert whole.status == 504
    assert whole.headers["x-should-retry"] == "true"


async def test_the_end_of_the_gateway_ends_answers_with_an_error(gateway: Running) -> None:
    body = chat("fake?tokens=1000000&delay_ms=5")
    async with asking(gateway.port, "/v1/chat/completions", body) as streamed:
        await streamed.until(b'"content":"')
        async with asking(gateway.port, "/v1/chat/completions", {**body, "stream": False}) as whole:
            with anyio.fail_after(60):
                while len(gateway.gateway.answers) < 2:
                    await gateway.sidecar.ping()
            gateway.gateway.stop_answers()
            response = await streamed.response()
            assert not ends_whole(response)
            assert response.chunks[-1]["error"]["code"] == "shutting_down"
            assert (await whole.response()).status == 503
    await gateway.sidecar_is_idle()


async def test_the_death_of_the_whole_sidecar_ends_streams_with_an_error_and_later_ones_work(gateway: Running) -> None:
    async with asking(gateway.port, "/v1/chat/completions", chat("fake?tokens=1000000&delay_ms=5")) as request:
        await request.until(b'"content":"')
        process = await gateway.sidecar.process_id()
        await anyio.run_process(["kill", "-9", str(process)])
        response = await request.response()
    assert not ends_whole(response)
    assert response.chunks[-1]["error"]["code"] == "engine_lost"
    assert ends_whole(await ask(gateway.port, "/v1/chat/completions", chat("fake?text=again")))


async def test_silence_is_filled_with_pings_from_the_first_tenth_of_a_second(gateway: Running) -> None:
    response = await ask(gateway.port, "/v1/chat/completions", chat("fake?text=late&prefill_ms=1800"))
    assert ends_whole(response)
    before, _, _ = response.body.partition(b"data:")
    # At 0.1 s, and every half second from then on; fewer of them on a busy machine.
    assert before.count(b": ping\n\n") >= 2


async def test_pings_go_on_while_an_engine_is_started_again(gateway: Running) -> None:
    body = chat("fake?text=survives&crash_after=3&prefill_ms=800")
    response = await ask(gateway.port, "/v1/chat/completions", body)
    assert ends_whole(response)
    assert response.text == "survives"
    assert b": ping\n\n" in response.body.partition(b"data:")[2]


async def test_a_refusal_before_anything_was_sent_has_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "FIRST_PING_S", 60.0)  # so that a busy machine refuses in time
    async with running(ping_s=60.0) as silent:
        unknown = await ask(silent.port, "/v1/chat/completions", chat("fake?fail_load=model_not_found"))
        long = await ask(silent.port, "/v1/chat/completions", chat("fake?context=4"))
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")
    assert (long.status, long.json["error"]["code"]) == (400, "context_length_exceeded")


async def test_a_refusal_behind_a_ping_is_an_error_event(gateway: Running) -> None:
    late = await ask(gateway.port, "/v1/chat/completions", chat("fake?fail_load=model_not_found&load_ms=500"))
    assert late.status == 200
    assert not ends_whole(late)
    assert late.chunks[-1]["error"]["code"] == "model_not_found"


async def test_a_sidecar_that_has_too_much_to_do_is_told_with_the_time_to_come_back() -> None:
    async with running(options=("--engine", "fake", "--requests-limit-bytes", "2000")) as small:
        body = {"model": "fake?prefill_ms=600000", "messages": [{"role": "user", "content": "x" * 1500}]}
        async with asking(small.port, "/v1/chat/completions", body):
            with anyio.fail_after(60):
                while not (await small.sidecar.stats()).queue.running:
                    pass
            refused = await ask(small.port, "/v1/chat/completions", body)
    assert (refused.status, refused.json["error"]["code"]) == (503, "overloaded")
    assert refused.headers["x-should-retry"] == "true"
    assert 1 <= int(refused.headers["retry-after"]) <= 60

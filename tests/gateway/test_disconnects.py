"""A client that leaves takes its request with it, wherever the request is."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import pytest

from mlx_sidecar_gateway.core import answers
from tests.gateway.endings import Spoken, streaming_routes
from tests.gateway.in_memory import InMemory, in_memory
from tests.gateway.support import PATIENCE_S, Running, ask, asking, chat, running

pytestmark = pytest.mark.anyio

ENDLESS = "fake?tokens=1000000&delay_ms=5"
PATH = "/v1/chat/completions"
CONTENT = b'"content":"'
PLACES = 32  # of a model: as many sequences run at once
ROUTES = streaming_routes()


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Running]:
    async with running() as one:
        yield one


async def all_gone(gateway: Running) -> None:
    with anyio.fail_after(PATIENCE_S):
        await gateway.gateway.idle()
    await gateway.sidecar_is_idle()


async def until_running(gateway: Running, count: int) -> None:
    with anyio.fail_after(PATIENCE_S):
        while len(gateway.gateway.answers) < count:
            await gateway.sidecar.ping()


async def test_a_client_that_leaves_while_text_comes(gateway: Running) -> None:
    async with asking(gateway.port, PATH, chat(ENDLESS)) as request:
        await request.until(CONTENT)
    await all_gone(gateway)


async def test_a_client_that_leaves_during_a_prefill_without_a_byte_of_answer(gateway: Running) -> None:
    async with asking(gateway.port, PATH, chat("fake?prefill_ms=600000")) as request:
        await request.until(b": ping")
    await all_gone(gateway)


@pytest.mark.parametrize("model", [ENDLESS, "fake?prefill_ms=600000"])
async def test_a_client_that_leaves_before_an_answer_that_is_not_streamed(gateway: Running, model: str) -> None:
    async with asking(gateway.port, PATH, chat(model, stream=False)):
        await until_running(gateway, 1)
    await all_gone(gateway)


async def test_a_client_that_leaves_before_its_vectors(gateway: Running) -> None:
    body = {"model": "fake?prefill_ms=600000", "input": ["x"] * 100}
    before = gateway.gateway.outcomes["disconnected"]
    async with asking(gateway.port, "/v1/embeddings", body):
        await gateway.sidecar_works(64)
    with anyio.fail_after(PATIENCE_S):
        while gateway.gateway.outcomes["disconnected"] == before:
            await gateway.sidecar.ping()
    await all_gone(gateway)


async def test_a_client_that_leaves_the_queue(gateway: Running) -> None:
    # The fake engine runs 32 sequences at most, so that some of these wait.
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            async with asking(gateway.port, PATH, chat("fake?prefill_ms=600000")):
                await anyio.sleep_forever()

        for _ in range(40):
            tasks.start_soon(wait)
        await until_running(gateway, 40)
        tasks.cancel_scope.cancel()
    await all_gone(gateway)


async def test_a_client_that_leaves_before_its_body_is_whole(gateway: Running) -> None:
    before = gateway.gateway.outcomes["disconnected"]
    async with await anyio.connect_tcp("127.0.0.1", gateway.port) as stream:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nContent-Length: 99\r\n\r\n"
        await stream.send(head.encode() + b'{"model":')
        await gateway.sidecar.ping()
    with anyio.fail_after(PATIENCE_S):
        while gateway.gateway.outcomes["disconnected"] == before:
            await gateway.sidecar.ping()


async def test_after_random_disconnects_nothing_is_left_and_the_gateway_answers(gateway: Running) -> None:
    """In the queue, in prefill, while text comes and before a whole answer, on every route that streams."""
    chance = random.Random(7)

    async def one(limiter: anyio.CapacityLimiter, spoken: Spoken, model: str, marks: list[bytes], stream: bool) -> None:
        async with limiter, asking(gateway.port, spoken.path, spoken.body(model) | {"stream": stream}) as request:
            for mark in marks if stream else ():
                await request.until(mark)

    limiter = anyio.CapacityLimiter(40)  # more than the engine runs at once
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            model = chance.choice([ENDLESS, "fake?prefill_ms=600000"])
            marks = chance.choice([[], [b"HTTP/1.1 200"], [b"HTTP/1.1 200", b"}\n"] if model == ENDLESS else []])
            stream = chance.random() < 0.7
            tasks.start_soon(one, limiter, chance.choice(ROUTES), model, marks, stream)
    await all_gone(gateway)
    assert (await ask(gateway.port, PATH, chat("fake?text=well"))).text == "well"


async def test_a_client_that_leaves_makes_room_for_the_next_in_the_queue(gateway: Running) -> None:
    async with AsyncExitStack() as running:
        first, *others = [
            await running.enter_async_context(asking(gateway.port, PATH, chat(ENDLESS))) for _ in range(PLACES)
        ]
        for request in (first, *others):
            await request.until(CONTENT)
        async with asking(gateway.port, PATH, chat(ENDLESS, max_tokens=3)) as waiting:
            await waiting.until(b": ping")
            queue = (await gateway.sidecar.stats()).queue
            assert (queue.running, queue.waiting) == (PLACES, 1)
            await first.leave()
            response = await waiting.response()
        assert len(response.text) == 3
    await all_gone(gateway)


async def test_a_prompt_that_nobody_waits_for_any_more_is_in_the_cache_as_far_as_it_was_computed() -> None:
    body = {**chat("pocket", max_tokens=1), "messages": [{"role": "user", "content": "the sea and the trees " * 400}]}
    async with running(options=()) as real:
        await real.sidecar.load("pocket")
        async with asking(real.port, PATH, body):
            with anyio.fail_after(PATIENCE_S):
                while not (await real.sidecar.stats()).counters["prefill_tokens"]:
                    pass
        await all_gone(real)
        computed = (await real.sidecar.stats()).counters["prefill_tokens"]
        usage = (await ask(real.port, PATH, {**body, "stream": False})).json["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > 0
        assert usage["prompt_tokens_details"]["cached_tokens"] <= computed
        assert computed < usage["prompt_tokens"]  # it had left in the middle


# Servers that speak a later ASGI.


@pytest.fixture(scope="module")
async def memory(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory(ping_s=600.0) as made:
        yield made


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
@pytest.mark.parametrize("stream", [True, False])
async def test_silence_is_watched_whatever_the_version_of_asgi_is(
    memory: InMemory, monkeypatch: pytest.MonkeyPatch, spec_version: str, stream: bool
) -> None:
    """From 2.4 on ``send`` tells of a client that left, but nothing is sent in a silent prefill."""
    monkeypatch.setattr(answers, "FIRST_PING_S", 600.0)
    body = chat("fake?prefill_ms=600000", stream=stream)
    visit = memory.visit(PATH, body, spec_version=spec_version)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit.run)
        with anyio.fail_after(PATIENCE_S):
            while not (await memory.sidecar.stats()).queue.running:
                pass
        visit.leaves.set()
    assert (visit.status, visit.body) == (0, b"")
    await memory.sidecar_is_idle()


async def test_a_server_that_tells_a_writer_of_a_client_that_left_is_understood(
    memory: InMemory, caplog: pytest.LogCaptureFixture
) -> None:
    before = memory.gateway.outcomes["disconnected"]
    visit = memory.visit(PATH, chat(ENDLESS), spec_version="2.4")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit.run)
        await visit.has_heard.wait()
        visit.is_gone = True  # and ``receive`` never tells of it
    await memory.sidecar_is_idle()
    assert memory.gateway.outcomes["disconnected"] == before + 1
    assert not caplog.records


# Readers that stall.


async def test_a_reader_that_stalls_holds_the_engine_back_and_nobody_else(gateway: Running) -> None:
    async with asking(gateway.port, PATH, chat("fake?tokens=400000&context=500000")) as stalled:
        await stalled.until(b'"role"')
        # The sockets' buffers fill, then the window; from then on the engine has nothing to decode.
        for _ in range(3):
            assert (await ask(gateway.port, PATH, chat("fake?text=fast"))).text == "fast"
        assert len(gateway.gateway.answers) == 1
    await all_gone(gateway)

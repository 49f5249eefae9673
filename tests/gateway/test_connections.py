"""Connections have bounds: in their number, and in the time and the length of what comes before a request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import anyio
import pytest
from anyio.abc import ByteStream

from mlx_sidecar_gateway import connections
from mlx_sidecar_gateway.core.gateway import Gateway
from mlx_sidecar_gateway.server import http_server
from mlx_sidecar_gateway.surfaces.surface import Offer
from tests.gateway.support import FAKE, PATIENCE_S, Response, Running, ask, parsed, running

LIMIT = 3
BEGUN = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-"


def bounded(header_timeout_s: float) -> AbstractAsyncContextManager[Running]:
    models = (Offer("a", "fake"),)
    return running(models=models, connection_limit=LIMIT, header_timeout_s=header_timeout_s, keep_alive_s=600.0)


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Running]:
    async with bounded(0.5) as one:
        yield one


@pytest.fixture(scope="module")
async def patient(anyio_backend: str) -> AsyncIterator[Running]:
    """Gives headers as long as a busy machine may take for what else a test does meanwhile."""
    async with bounded(3.0) as one:
        yield one


@asynccontextmanager
async def connected(gateway: Running, data: bytes = b"") -> AsyncIterator[ByteStream]:
    """A connection on which ``data`` has been sent."""
    async with await anyio.connect_tcp("127.0.0.1", gateway.port) as stream:
        if data:
            await stream.send(data)
        yield stream


async def rest(stream: ByteStream) -> bytes:
    """The bytes that come until the gateway closes the connection."""
    received = b""
    with anyio.fail_after(PATIENCE_S), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            received += await stream.receive()
    return received


async def trickle(gateway: Running, stream: ByteStream, data: bytes) -> bytes:
    """The bytes that come while ``data`` is sent again and again, until the gateway closes the connection."""
    received = b""

    async def send() -> None:
        with suppress(anyio.BrokenResourceError):
            while True:
                await stream.send(data)
                await gateway.sidecar.ping()  # for the pace

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        received = await rest(stream)
        tasks.cancel_scope.cancel()
    return received


async def models(gateway: Running, *headers: str) -> Response:
    return await ask(gateway.port, "/v1/models", headers=headers)


@pytest.mark.anyio
async def test_a_client_that_sends_its_headers_byte_by_byte_is_cut_off_and_others_are_served(gateway: Running) -> None:
    async with connected(gateway, BEGUN) as slow:
        assert (await models(gateway)).status == 200
        late = parsed(await trickle(gateway, slow, b"a"))
    assert (late.status, late.headers["connection"]) == (408, "close")
    assert late.json["error"]["code"] == "header_timeout"
    assert (await models(gateway)).status == 200


@pytest.mark.anyio
async def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(gateway: Running) -> None:
    async with connected(gateway) as silent:
        assert await rest(silent) == b""


@pytest.mark.anyio
async def test_a_connection_that_is_kept_has_the_same_time_for_its_next_request(gateway: Running) -> None:
    async with connected(gateway, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n") as kept:
        with anyio.fail_after(PATIENCE_S):
            assert b"200 OK" in await kept.receive()
        # Line feeds before a request mean nothing, and would keep uvicorn's own timer from running out.
        received = await trickle(gateway, kept, b"\r\n")
    assert b"200 OK" not in received


@pytest.mark.anyio
async def test_a_body_that_comes_behind_its_refusal_does_no_harm_to_the_next_request(patient: Running) -> None:
    half = b"x" * connections.HEAD_LIMIT_BYTES
    head = b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (2 * len(half))
    async with connected(patient, head + half) as kept:
        with anyio.fail_after(PATIENCE_S):
            assert b" 404 " in await kept.receive()
            await kept.send(half + b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 200 OK" in await rest(kept)


@pytest.mark.anyio
async def test_headers_that_never_end_are_cut_off_by_their_length(gateway: Running) -> None:
    async with connected(gateway, BEGUN) as long:
        with suppress(anyio.BrokenResourceError):
            await long.send(b"a" * connections.HEAD_LIMIT_BYTES)
        answer = parsed(await rest(long))
    assert (answer.status, answer.json["error"]["code"]) == (431, "header_too_long")


@pytest.mark.anyio
async def test_one_connection_too_many_is_told_so_and_supervisors_are_still_answered(patient: Running) -> None:
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(connected(patient, BEGUN)) for _ in range(LIMIT)]
        refused = await models(patient)
        assert (refused.status, refused.json["error"]["code"]) == (503, "overloaded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-should-retry"] == "true"
        assert (await models(patient, "anthropic-version: 1")).status == 529
        assert (await ask(patient.port, "/health/live")).status == 200
        for stream in slow:
            assert b" 408 " in await rest(stream)
    assert (await models(patient)).status == 200


@pytest.mark.anyio
async def test_of_many_more_most_are_closed_at_once(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TOLD", 1)
    async with AsyncExitStack() as stack:
        for _ in range(LIMIT + 1):
            await stack.enter_async_context(connected(gateway, BEGUN))
        beyond = await stack.enter_async_context(connected(gateway))
        assert await rest(beyond) == b""


def test_the_time_between_two_requests_is_uvicorns_own() -> None:
    assert http_server(Gateway(replace(FAKE, keep_alive_s=0.25)), None).config.timeout_keep_alive == 0.25

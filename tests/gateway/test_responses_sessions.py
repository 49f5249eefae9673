"""The sidecar's sessions behind responses: none is left over, and none is needed for long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from tests.gateway.support import PATIENCE_S, Response, Running, ask, asking, running

pytestmark = pytest.mark.anyio

ENDLESS = "fake?tokens=1000000&delay_ms=5&context=2000000"


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Running]:
    async with running() as one:
        yield one


async def asked(gateway: Running, model: str = "fake?text=well", **more: Any) -> Response:
    return await ask(gateway.port, "/v1/responses", {"model": model, "input": "Hello", **more})


async def sessions(gateway: Running) -> float:
    return (await gateway.sidecar.stats()).gauges["sessions"]


async def test_each_response_that_is_kept_has_one_session_and_others_have_none(gateway: Running) -> None:
    before = len(gateway.gateway.kept)
    first = (await asked(gateway)).json["id"]
    second = (await asked(gateway, previous_response_id=first)).json["id"]
    await asked(gateway, store=False)
    await asked(gateway, previous_response_id=second, store=False)
    assert (await asked(gateway, model="fake?fail_after=0")).status == 500
    assert (await asked(gateway, previous_response_id=first, tool_choice="required")).status == 400
    assert len(gateway.gateway.kept) == before + 2
    assert await sessions(gateway) == before + 2
    await ask(gateway.port, f"/v1/responses/{first}", method="DELETE")
    assert await sessions(gateway) == before + 1


async def test_a_client_that_leaves_takes_the_session_with_it(gateway: Running) -> None:
    body = {"model": ENDLESS, "input": "Hello", "stream": True}
    async with asking(gateway.port, "/v1/responses", body) as request:
        await request.until(b'"delta":"')
    with anyio.fail_after(PATIENCE_S):
        while await sessions(gateway) != len(gateway.gateway.kept):
            pass


async def test_what_was_kept_cannot_be_continued_by_another_sidecar(gateway: Running) -> None:
    first = (await asked(gateway)).json["id"]
    await anyio.run_process(["kill", "-9", str(await gateway.sidecar.process_id())])
    await gateway.sidecar.ping()  # answered by the next one
    refused = await asked(gateway, previous_response_id=first)
    assert (refused.status, refused.json["error"]["code"]) == (400, "previous_response_not_found")
    assert refused.json["error"]["param"] == "previous_response_id"
    assert (await asked(gateway)).status == 200


async def test_where_the_sidecar_takes_no_more_sessions_the_oldest_responses_are_forgotten() -> None:
    async with running(options=("--engine", "fake", "--sessions-limit", "2")) as small:
        ids = [(await asked(small)).json["id"] for _ in range(4)]
        statuses = [(await ask(small.port, f"/v1/responses/{id_}")).status for id_ in ids]
        assert statuses == [404, 404, 200, 200]
        assert (await asked(small, previous_response_id=ids[3])).status == 200

"""The live page's document and its events, without a browser."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_client.protocol.stats import StatsResult
from mlx_sidecar_gateway.core.access import Access
from mlx_sidecar_gateway.core.keys import Key
from mlx_sidecar_gateway.page import ticker as page_ticker
from mlx_sidecar_gateway.page.document import document
from mlx_sidecar_gateway.page.routes import wants_html
from mlx_sidecar_gateway.surfaces.faults import Refused
from tests.gateway.in_memory import InMemory, Visit, gateway_over, holding, in_memory
from tests.gateway.support import PATIENCE_S

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
BODY = {"model": "fake?tokens=20", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
async def memory(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory() as made:
        yield made


def get(memory: InMemory, path: str, *, method: str = "GET", **headers: str) -> Visit:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return memory.visit(path, None, method=method, headers=named)


def snapshots(visit: Visit) -> list[dict[str, Any]]:
    """The snapshots that have come."""
    return [json.loads(event.removeprefix(b"data: ")) for event in visit.body.split(b"\n\n") if event]


@asynccontextmanager
async def watching(memory: InMemory, count: int = 1, **headers: str) -> AsyncIterator[list[Visit]]:
    """So many viewers of the events, each of which has a snapshot; they leave with the block."""
    visits = [get(memory, "/events", **headers) for _ in range(count)]
    async with anyio.create_task_group() as tasks:
        for visit in visits:
            tasks.start_soon(visit.run)
        with anyio.fail_after(PATIENCE_S):
            for visit in visits:
                await visit.has_heard.wait()
        yield visits
        for visit in visits:
            visit.leaves.set()


async def until(visit: Visit, count: int) -> dict[str, Any]:
    """The snapshot with this number, from 1."""
    with anyio.fail_after(PATIENCE_S):
        while len(told := snapshots(visit)) < count:
            await anyio.sleep(0)
    return told[count - 1]


# The document.


@pytest.mark.anyio
async def test_browsers_get_the_document_and_all_others_the_probe(memory: InMemory) -> None:
    page = await get(memory, "/", accept=BROWSER).run()
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.body == document().html
    for accept in ("*/*", "application/json", ""):
        probe = await get(memory, "/", accept=accept).run()
        assert (probe.status, json.loads(probe.body)) == (200, {"status": "ok"})
    head = await get(memory, "/", method="HEAD", accept=BROWSER).run()
    assert head.headers["content-length"] == str(len(document().html))
    assert (await get(memory, "/", method="HEAD").run()).headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("accept", "html"),
    [(BROWSER, True), ("TEXT/HTML;q=0.5", True), ("text/*", False), ("*/*", False), ("application/json", False)],
)
def test_html_is_for_those_that_name_it(accept: str, html: bool) -> None:
    assert wants_html(accept) is html


def test_the_policy_allows_the_documents_own_parts_and_nothing_from_elsewhere() -> None:
    html, policy = document().html.decode(), document().policy
    for element in ("style", "script"):
        parts = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
        hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in parts]
        assert hashes
        assert f"{element}-src {' '.join(hashes)};" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    # Addresses of name spaces are no links.
    assert not re.findall(r"""(?:src|href)=["']?(?!data:|#)[^"'> ]+""", html)
    assert not re.search(r"\bon\w+=|style=|innerHTML|insertAdjacentHTML|document\.write|\beval\(", html)


@pytest.mark.anyio
async def test_a_name_that_leads_here_gets_no_document(memory: InMemory) -> None:
    strict = gateway_over(memory.sidecar, hosts=("here.example",))
    assert (await get(strict, "/", accept=BROWSER).run()).status == 403


# Access.


def test_the_gateways_own_page_may_ask_and_no_other() -> None:
    access = Access({"localhost", "127.0.0.1"}, (), {})
    assert access.check({"host": "localhost:8080", "origin": "http://localhost:8080"}).is_alone
    others = [
        "http://localhost:9090",
        "http://127.0.0.1:8080",
        "https://page.example",
        "null",
        "",
        "ftp://localhost:8080",
    ]
    for origin in others:
        with pytest.raises(Refused):
            access.check({"host": "localhost:8080", "origin": origin})
    with pytest.raises(Refused):
        access.check({"host": "rebound.example", "origin": "http://rebound.example"})


names = st.sampled_from(
    ["localhost", "LOCALHOST:80", "localhost:8080", "here.example", "", "[::1]:8080", "a@localhost"]
)


@given(st.sampled_from(["http", "https", "HTTP", "ftp", "null", ""]), st.sampled_from(["://", ":", ""]), names, names)
def test_no_origin_but_that_of_the_host_is_taken(scheme: str, separator: str, place: str, host: str) -> None:
    is_own = scheme in ("http", "https") and separator == "://" and host != "" and place.lower() == host.lower()
    try:
        Access(None, (), {}).check({"host": host, "origin": f"{scheme}{separator}{place}"})
    except Refused:
        assert not is_own
    else:
        assert is_own


@pytest.mark.anyio
async def test_events_need_a_key_where_keys_are_asked_for(memory: InMemory) -> None:
    keyed = gateway_over(memory.sidecar, keys={"sk-ann": Key(name="ann")})
    for headers in ({}, {"authorization": "Bearer wrong"}):
        refused = await get(keyed, "/events", **headers).run()
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (401, "invalid_api_key")
    assert (await get(keyed, "/", accept=BROWSER).run()).status == 200


@pytest.mark.anyio
async def test_events_are_only_read(memory: InMemory) -> None:
    refused = await get(memory, "/events", method="POST").run()
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.anyio
async def test_a_holder_of_a_key_sees_no_request_of_another_and_no_name(memory: InMemory) -> None:
    keyed = gateway_over(memory.sidecar, keys={"sk-ann": Key(name="the-name-ann"), "sk-bob": Key(name="bob")})
    key = [("authorization", "Bearer sk-ann")]
    await keyed.visit("/v1/chat/completions", BODY, headers=key).run()
    await keyed.visit("/v1/chat/completions", BODY, headers=[("authorization", "Bearer wrong")]).run()
    with holding() as gate:
        held = keyed.visit("/v1/chat/completions", {**BODY, "model": f"fake?context={gate.context(0)}"}, headers=key)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.run)
            with anyio.fail_after(PATIENCE_S):
                while not keyed.gateway.answers:
                    await anyio.sleep(0)
            async with watching(keyed, authorization="Bearer sk-bob") as [bob]:
                [seen, *_] = snapshots(bob)
                assert (seen["requests"]["running"], seen["requests"]["ended"]) == ([], [])
                assert seen["shared"]["running"] == 1
                assert b"the-name-ann" not in bob.body
            async with watching(keyed, authorization="Bearer sk-ann") as [ann]:
                [seen, *_] = snapshots(ann)
                assert [len(seen["requests"][name]) for name in ("running", "ended")] == [1, 1]
            held.leaves.set()


# The events.


@pytest.mark.anyio
async def test_a_snapshot_has_the_numbers_of_stats(memory: InMemory) -> None:
    await memory.visit("/v1/chat/completions", BODY).run()
    async with watching(memory) as [viewer]:
        [seen, *_] = snapshots(viewer)
    stats = json.loads((await get(memory, "/stats").run()).body)
    counts = ("running", "outcomes", "ignored")
    assert {name: seen["shared"][name] for name in counts} == {name: stats[name] for name in counts}
    [request, *_] = seen["requests"]["ended"]
    assert (request["model"], request["outcome"], request["tokens"]) == (BODY["model"], "stop", 20)
    assert seen["shared"]["engine"]["state"] == "ready"
    assert viewer.headers["content-type"] == "text/event-stream"


@pytest.mark.anyio
async def test_one_question_a_second_goes_to_the_sidecar_however_many_look_and_none_while_nobody_does(
    memory: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    stats = memory.sidecar.stats

    async def counted() -> StatsResult:
        nonlocal asked
        asked += 1
        return await stats()

    monkeypatch.setattr(memory.sidecar, "stats", counted)
    monkeypatch.setattr(page_ticker, "PERIOD_S", 0.05)
    gateway = gateway_over(memory.sidecar)
    tasks = asyncio.all_tasks()
    async with watching(gateway, 20) as viewers:
        for viewer in viewers:
            await until(viewer, 10)
        told = [each["shared"]["unix_s"] for viewer in viewers for each in snapshots(viewer)]
        assert len(told) >= 200
        assert asked <= len(set(told)) + 1
        assert asked <= len(told) / 5  # those that come together may find a sample too old, if the machine is slow
    assert asyncio.all_tasks() == tasks  # none is left that could ask


@pytest.mark.anyio
async def test_a_viewer_that_reads_slowly_gets_the_newest_snapshot_next(
    memory: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_ticker, "PERIOD_S", 0.01)
    gateway = gateway_over(memory.sidecar)
    async with watching(gateway, 2) as [slow, quick]:
        slow.reads = anyio.Event()
        had = len(snapshots(slow))
        newest = await until(quick, had + 30)
        slow.reads.set()
        # One was being written, and the next is none of those that came between.
        assert (await until(slow, had + 2))["shared"]["unix_s"] >= newest["shared"]["unix_s"]


@pytest.mark.anyio
async def test_viewers_hold_up_no_end_of_the_gateway(memory: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_ticker, "PERIOD_S", 0.01)
    gateway = gateway_over(memory.sidecar)
    viewer = get(gateway, "/events")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(viewer.run)
        await viewer.has_heard.wait()
        gateway.gateway.is_draining = True
    assert viewer.is_complete


@pytest.mark.anyio
async def test_a_sidecar_that_does_not_run_yet_is_told(memory: InMemory) -> None:
    gateway = gateway_over(memory.sidecar)
    gateway.gateway._sidecar = None
    async with watching(gateway) as [viewer]:
        [seen, *_] = snapshots(viewer)
    assert seen["shared"]["problem"] == "the gateway is starting"
    assert seen["shared"]["engine"] is None

"""The live page's document and its events, without a browser."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_client.protocol.cache import CacheStatsResult
from mlx_sidecar_client.protocol.stats import StatsResult
from mlx_sidecar_gateway.core.access import Access
from mlx_sidecar_gateway.core.keys import Key
from mlx_sidecar_gateway.core.records import Record
from mlx_sidecar_gateway.page import ticker as page_ticker
from mlx_sidecar_gateway.page.document import document
from mlx_sidecar_gateway.page.live import MOST_RUNNING, Sample, first_token, own, shared, tokens_a_second
from mlx_sidecar_gateway.page.recent import LAST, Recent
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
    visit = memory.visit(path, None, headers=[(name.replace("_", "-"), value) for name, value in headers.items()])
    visit.ask(method)
    return visit


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
    assert {name: seen["shared"][name] for name in stats} == stats
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


# The snapshot.


def record(number: int, **members: Any) -> Record:
    made = Record(str(number), "POST", "/v1/chat/completions", came_s=float(number))
    for name, value in members.items():
        setattr(made, name, value)
    return made


def stats_of(tokens: int, instance: str = "one") -> StatsResult:
    counts: Mapping[str, Any] = {"completion_tokens": tokens}
    return StatsResult.model_validate(
        {
            "server": {"name": "mlx-sidecar", "version": "0"},
            "instance": instance,
            "uptime_s": 1.0,
            "engine": {"state": "ready", "restarts": 3},
            "health": {"status": "ok", "ready": True, "restarts": 3},
            "queue": {"waiting": 2, "running": 1},
            "memory": {"limit_bytes": 100, "models_bytes": 40},
            "counters": counts,
            "gauges": {"kept_bytes": 20.0, "free_bytes": 40.0},
            "histograms": {},
        }
    )


@given(st.lists(st.floats(0, 1e3), min_size=1))
def test_a_percentile_is_one_of_the_times_and_has_its_share_at_or_below_it(seconds: list[float]) -> None:
    told = first_token(seconds)
    assert told.count == len(seconds)
    for value, part in ((told.p50_s, 0.5), (told.p95_s, 0.95)):
        assert value is not None
        assert value in seconds
        assert sum(other <= value for other in seconds) >= part * len(seconds)
        assert sum(other < value for other in seconds) < part * len(seconds)


@given(st.lists(st.tuples(st.floats(0.01, 10), st.integers(0, 1000)), min_size=2, max_size=8))
def test_the_rate_of_tokens_is_that_between_the_first_and_the_last_sample(steps: list[tuple[float, int]]) -> None:
    samples, at_s, tokens = [], 0.0, 0
    for gap_s, more in steps:
        at_s, tokens = at_s + gap_s, tokens + more
        samples.append(Sample(at_s, stats_of(tokens)))
    expected = (tokens - steps[0][1]) / (at_s - steps[0][0])
    assert tokens_a_second(samples) == pytest.approx(expected)


def test_the_rate_is_not_known_of_one_sample_nor_across_sidecars_nor_without_one() -> None:
    one, other = Sample(1.0, stats_of(10)), Sample(2.0, stats_of(30, "two"))
    assert tokens_a_second([one]) is None
    assert tokens_a_second([one, other]) is None
    assert tokens_a_second([one, Sample(2.0, problem="away")]) is None
    assert tokens_a_second([one, other, Sample(3.0, stats_of(40, "two"))]) == 10


def test_memory_is_told_by_owner_and_the_engine_by_its_restarts() -> None:
    cache = CacheStatsResult.model_validate(
        {
            "block_tokens": 64,
            "ram": {"limit_bytes": 50, "used_bytes": 20, "pinned_bytes": 0, "blocks": 2},
            "disk": {"state": "off", "used_bytes": 0, "pending_bytes": 0, "blocks": 0, "files": 0},
            "index": {"nodes": 2, "nbytes": 1},
            "counters": {"ram_tokens": 128},
            "models": [],
        }
    )
    told = shared([Sample(1.0, stats_of(0), cache)], 5.0, 1, {}, {}, [])
    assert told.memory is not None
    assert told.memory.owners == {"models": 40, "adapters": 0, "requests": 0, "prefix cache": 20}
    assert sum(told.memory.owners.values()) + (told.memory.free_bytes or 0) == told.memory.limit_bytes
    assert told.engine is not None
    assert told.engine.restarts == 3
    assert told.cache is not None
    assert (told.cache.ram.state, told.cache.ram.tokens, told.cache.disk.state) == ("on", 128, "off")


def test_running_requests_are_bounded_and_the_newest_of_them_listed() -> None:
    running = [record(number) for number in range(MOST_RUNNING + 10)]
    told = own(running, [record(1, duration_s=2.0, outcome="stop", missed="date")], now_s=100.0)
    assert [each.id for each in told.running] == [str(number) for number in range(MOST_RUNNING + 9, 9, -1)]
    assert told.running[0].elapsed_s == 100.0 - (MOST_RUNNING + 9)
    assert (told.ended[0].elapsed_s, told.missed) == (2.0, {"date": 1})


@given(st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from(["POST", "GET"])), max_size=200))
def test_the_last_requests_of_each_key_are_kept_and_those_that_only_read_are_not(came: list[tuple[str, str]]) -> None:
    recent = Recent(time.monotonic)
    for number, (key, method) in enumerate(came):
        recent.hear(record(number, key=key, method=method))
    for key in ("ann", "bob", "eve"):
        posts = [str(number) for number, (other, method) in enumerate(came) if (other, method) == (key, "POST")]
        assert [each.id for each in recent.of(key)] == posts[::-1][:LAST]


def test_times_of_first_tokens_count_for_five_minutes() -> None:
    now_s = 0.0
    recent = Recent(lambda: now_s)
    recent.hear(record(1, generates=True, first_token_s=1.0))
    now_s = 200.0
    recent.hear(record(2, generates=True, first_token_s=2.0))
    assert recent.first_tokens_s() == [1.0, 2.0]
    now_s = 301.0
    assert recent.first_tokens_s() == [2.0]

"""Every fault of an upstream of each kind, on each surface: its client has one whole answer, or one error."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from tests.gateway.endings import Ended, Spoken, streaming_routes
from tests.gateway.in_memory import InMemory, MemorySidecar
from tests.gateway.providers.gateways import KEY, routed
from tests.gateway.providers.upstreams import (
    AT_ONCE,
    CALL,
    MIDWAY,
    REASONING,
    TEXT,
    Behave,
    Connection,
    Kind,
    Upstream,
    upstream,
    whole,
)
from tests.gateway.support import HELLO, PATIENCE_S

pytestmark = pytest.mark.anyio

ROUTES = [spoken for spoken in streaming_routes() if spoken.path != "/completions"]
MANY = "breaker_failures: 1000"
each_kind = pytest.mark.parametrize("kind", ["openai", "anthropic"])


def table(first: Upstream, second: Upstream | None = None, *, fault: str = "") -> str:
    """A model ``m`` at one upstream, or at two of which the second is asked when the first fails."""
    # Of upstreams that hang, and of no others: on a busy machine any of them may take as long.
    patience = ", first_timeout_s: 1" if fault in AT_ONCE else ", idle_timeout_s: 1"
    patience = patience if "silence" in fault else ""
    entries = [f"  first: {{{first.entry}, key_env: UPSTREAM_KEY, {MANY}{patience}}}"]
    routes = ["    - {provider: first, model: big}"]
    if second is not None:
        entries.append(f"  second: {{{second.entry}, {MANY}}}")
        routes.append("    - {provider: second, model: bigger}")
    return "\n".join(["providers:", *entries, "models:", "  m:", *routes, "retry: {rounds: 1, reserve: 1000}"])


def expected(spoken: Spoken) -> Ended:
    """The whole answer of an upstream as this surface tells it, without its reason."""
    return Ended(REASONING, TEXT, (CALL,) if spoken.answer == "chat" else ())


def said(ended: Ended) -> Ended:
    return Ended(ended.reasoning, ended.text, ended.calls)


async def streamed(memory: InMemory, spoken: Spoken) -> Ended:
    visit = await memory.visit(spoken.path, spoken.body("m")).run()
    assert visit.is_complete
    assert KEY.encode() not in visit.body
    return spoken.ended(visit.status, visit.body)


async def unstreamed(memory: InMemory, spoken: Spoken) -> tuple[int, Any]:
    body = {name: value for name, value in spoken.body("m").items() if name != "stream_options"}
    visit = await memory.visit(spoken.path, {**body, "stream": False}).run()
    assert visit.is_complete
    assert KEY.encode() not in visit.body
    return visit.status, json.loads(visit.body)


async def all_routes(memory: InMemory) -> tuple[dict[str, Ended], dict[str, tuple[int, Any]]]:
    """How a streamed answer ended on each route, and how a whole one did."""
    ends, bodies = dict[str, Ended](), dict[str, tuple[int, Any]]()

    async def ask(spoken: Spoken) -> None:
        ends[spoken.path] = await streamed(memory, spoken)
        bodies[spoken.path] = await unstreamed(memory, spoken)

    async with anyio.create_task_group() as tasks:
        for spoken in ROUTES:
            tasks.start_soon(ask, spoken)
    return ends, bodies


@each_kind
async def test_a_whole_answer_is_told_by_each_surface(kind: Kind, sidecar: MemorySidecar) -> None:
    async with upstream(kind, whole) as first, routed(sidecar, table(first)) as memory:
        ends, bodies = await all_routes(memory)
        for spoken in ROUTES:
            assert said(ends[spoken.path]) == expected(spoken)
            assert ends[spoken.path].reason is not None
            status, body = bodies[spoken.path]
            assert status == 200
            assert TEXT in json.dumps(body)
        tokens = memory.gateway.figures()["providers"]["first"]["tokens"][""]
        assert tokens == {"prompt": 11 * 2 * len(ROUTES), "completion": 7 * 2 * len(ROUTES)}
        assert {each.body["model"] for each in first.asked} == {"big"}


@pytest.mark.parametrize("fault", AT_ONCE)
@each_kind
async def test_a_fault_before_the_first_word_is_one_error(kind: Kind, fault: str, sidecar: MemorySidecar) -> None:
    async with upstream(kind, AT_ONCE[fault]) as first, routed(sidecar, table(first, fault=fault)) as memory:
        ends, bodies = await all_routes(memory)
        for spoken in ROUTES:
            assert ends[spoken.path].error is not None
            assert said(ends[spoken.path]) == Ended()
            status, body = bodies[spoken.path]
            assert status >= 429
            assert "error" in body


@pytest.mark.parametrize("fault", AT_ONCE)
async def test_a_fault_before_the_first_word_leads_to_the_next_provider(fault: str, sidecar: MemorySidecar) -> None:
    async with (
        upstream("openai", AT_ONCE[fault]) as first,
        upstream("anthropic", whole) as second,
        routed(sidecar, table(first, second, fault=fault)) as memory,
    ):
        ends, bodies = await all_routes(memory)
        assert [said(ends[spoken.path]) for spoken in ROUTES] == [expected(spoken) for spoken in ROUTES]
        assert [bodies[spoken.path][0] for spoken in ROUTES] == [200] * len(ROUTES)
        assert {each.body["model"] for each in second.asked} == {"bigger"}


@pytest.mark.parametrize("fault", MIDWAY)
@each_kind
async def test_a_fault_behind_the_first_words_is_one_error_and_no_second_answer(
    kind: Kind, fault: str, sidecar: MemorySidecar
) -> None:
    async with (
        upstream(kind, MIDWAY[fault]) as first,
        upstream("openai", whole) as second,
        routed(sidecar, table(first, second, fault=fault)) as memory,
    ):
        ends, bodies = await all_routes(memory)
        for spoken in ROUTES:
            assert ends[spoken.path].error is not None
            assert ends[spoken.path].begins(expected(spoken))
            status, body = bodies[spoken.path]
            assert status >= 500
            assert "error" in body
        assert second.asked == []


@pytest.mark.parametrize("hang", [AT_ONCE["silence"], MIDWAY["lasting silence"]], ids=["before", "behind"])
async def test_a_client_that_leaves_is_no_failure_and_ends_the_request_upstream(
    hang: Behave, sidecar: MemorySidecar
) -> None:
    begun, left = anyio.Event(), anyio.Event()

    async def behave(connection: Connection) -> None:
        begun.set()
        try:
            await hang(connection)
        finally:
            left.set()

    async with upstream("openai", behave) as first, routed(sidecar, table(first)) as memory:
        visit = memory.visit("/chat/completions", {"model": "m", "messages": HELLO})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(visit.run)
            with anyio.fail_after(PATIENCE_S):
                await begun.wait()
                visit.leaves.set()
                await left.wait()
        assert memory.gateway.figures()["providers"]["first"]["failures"] == 0
        assert memory.gateway.outcomes["disconnected"] == 1

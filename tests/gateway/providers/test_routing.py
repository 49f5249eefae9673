"""The way of requests through their chains: breakers, budgets, quotas, loops, and parameters that only some honour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from mlx_sidecar_gateway.providers.upstream import VIA
from tests.gateway.in_memory import InMemory, MemorySidecar
from tests.gateway.providers.gateways import KEY, providers_of, routed
from tests.gateway.providers.upstreams import TEXT, Connection, Kind, Upstream, events_of, refusing, upstream, whole
from tests.gateway.scripts import script
from tests.gateway.support import HELLO, PATIENCE_S

pytestmark = pytest.mark.anyio

LOCAL = "{provider: local, model: '" + script("from here") + "'}"
MANY = "breaker_failures: 1000"


def table(*upstreams: Upstream, more: str = "", local: bool = False, retry: str = "rounds: 1") -> str:
    """A model ``m`` at these upstreams in their order, and perhaps at the own sidecar behind them."""
    names = [f"u{number}" for number in range(len(upstreams))]
    entries = [f"  {name}: {{{each.entry}{more}}}" for name, each in zip(names, upstreams, strict=True)]
    routes = [f"    - {{provider: {name}, model: big}}" for name in names] + ([f"    - {LOCAL}"] if local else [])
    return "\n".join(["providers:", *entries, "models:", "  m:", *routes, "aliases: {other: m}", f"retry: {{{retry}}}"])


async def ask(
    memory: InMemory, path: str = "/chat/completions", headers: Sequence[tuple[str, str]] = (), **more: Any
) -> Any:
    """The status, the body and the headers of a chat that is not streamed."""
    visit = await memory.visit(path, {"model": "m", "messages": HELLO, **more}, headers=headers).run()
    return visit.status, json.loads(visit.body), visit.headers


def state_of(memory: InMemory) -> str:
    """The state of the first upstream's breaker."""
    return str(memory.gateway.figures()["providers"]["u0"]["state"])


def text_of(answer: Any) -> str:
    status, body, _ = answer
    assert status == 200, body
    return str(body["choices"][0]["message"]["content"])


async def test_a_breaker_opens_and_a_probe_and_a_trial_close_it(sidecar: MemorySidecar) -> None:
    more = ", breaker_failures: 3, open_s: 0.04, probe_s: 0.01"
    async with (
        upstream("openai", refusing(500)) as first,
        routed(sidecar, table(first, more=more, local=True)) as memory,
    ):
        provider = providers_of(memory).providers["u0"]
        provider.clock_s = lambda: 0.0  # no time passes, so that a probe alone ends the wait
        for _ in range(3):
            assert text_of(await ask(memory)) == "from here"
        assert provider.is_open
        assert text_of(await ask(memory)) == "from here"
        assert len(first.answers) == 3, "none was sent to it while it is open"
        first.behave = whole
        with anyio.fail_after(PATIENCE_S):
            while state_of(memory) == "open":
                await anyio.sleep(0.01)
        assert text_of(await ask(memory)) == TEXT
        assert state_of(memory) == "closed"


async def test_two_hundred_failing_requests_are_no_storm(sidecar: MemorySidecar) -> None:
    retry = "ratio: 0.1, reserve: 10, rounds: 3, base_s: 0.001, longest_s: 0.002"
    behave = refusing(500)
    async with (
        upstream("openai", behave) as first,
        upstream("anthropic", behave) as second,
        routed(sidecar, table(first, second, more=f", {MANY}, connect_timeout_s: 60", retry=retry)) as memory,
    ):
        statuses = list[int]()

        async def one() -> None:
            statuses.append((await ask(memory))[0])

        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(one)
        assert statuses == [502] * 200
        sent = len(first.answers) + len(second.answers)
        assert 200 < sent <= 200 + 200 * 0.1 + 10
        figures = memory.gateway.figures()["providers"]
        assert figures["u0"]["requests"] + figures["u1"]["requests"] == sent
        assert figures["u0"]["retries"] + figures["u1"]["retries"] == sent - 200
        assert figures["u0"]["failures"] + figures["u1"]["failures"] == sent


async def test_a_provider_is_asked_again_after_a_wait_where_there_is_no_other(sidecar: MemorySidecar) -> None:
    async with upstream("openai", refusing(500)) as first:

        async def once(connection: Connection) -> None:
            first.behave = whole
            await refusing(500)(connection)

        first.behave = once
        async with routed(sidecar, table(first, retry="rounds: 2, base_s: 0.01")) as memory:
            assert text_of(await ask(memory)) == TEXT
            assert len(first.answers) == 2


async def test_a_fault_of_the_client_is_told_and_sent_nowhere_else(sidecar: MemorySidecar) -> None:
    behave = refusing(422, f"messages are odd, {KEY}")
    more = ", key_env: UPSTREAM_KEY"
    async with upstream("openai", behave) as first, routed(sidecar, table(first, more=more, local=True)) as memory:
        status, body, headers = await ask(memory)
        assert status == 422
        assert body["error"]["code"] == "provider_refused"
        assert body["error"]["message"] == "the provider 'u0' refuses the request: messages are odd, ***"
        assert "x-should-retry" not in headers
        assert len(first.answers) == 1
        assert memory.gateway.figures()["providers"]["u0"]["failures"] == 0


async def test_a_context_that_is_too_long_for_one_may_fit_the_next(sidecar: MemorySidecar) -> None:
    behave = refusing(400, "too long", "context_length_exceeded")
    async with upstream("openai", behave) as first, routed(sidecar, table(first, local=True)) as memory:
        assert text_of(await ask(memory)) == "from here"
    async with upstream("openai", behave) as first, routed(sidecar, table(first)) as memory:
        status, body, _ = await ask(memory)
        assert (status, body["error"]["code"]) == (400, "context_length_exceeded")


async def test_a_provider_that_asks_for_it_is_left_alone_and_its_client_is_told_when_to_come_back(
    sidecar: MemorySidecar,
) -> None:
    async with upstream("openai", refusing(429, retry_after="45")) as first, routed(sidecar, table(first)) as memory:
        for _ in range(3):
            status, body, headers = await ask(memory)
            assert status == 503
            assert body["error"]["code"] == "provider_unavailable"
            assert 40 <= int(headers["retry-after"]) <= 45
            assert headers["x-should-retry"] == "true"
        assert len(first.answers) == 1
        assert state_of(memory) == "closed"


async def test_nothing_is_sent_to_a_provider_whose_quota_is_known_to_be_used_up(sidecar: MemorySidecar) -> None:
    async def last(connection: Connection) -> None:
        told = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m0s"}
        await connection.head(headers=told)
        for event in events_of(connection):
            await connection.stream.send(event)

    async with upstream("openai", last) as first, routed(sidecar, table(first, local=True)) as memory:
        assert text_of(await ask(memory)) == TEXT
        assert text_of(await ask(memory)) == "from here"
        assert len(first.answers) == 1
        assert memory.gateway.figures()["providers"]["u0"]["remaining"] == {"requests": 0}


# Parameters.


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
        ({"min_p": 0.1}, "min_p"),
        ({"speculation": {"ngram": True}}, "speculation"),
        ({"chat_template_kwargs": {"style": "short"}}, "chat_template_kwargs"),
        ({"response_format": {"type": "regex", "pattern": "a+"}}, "response_format"),
    ],
)
async def test_what_an_upstream_cannot_honour_is_refused_by_the_client_s_name_of_it(
    kind: Kind, more: dict[str, Any], field: str, sidecar: MemorySidecar
) -> None:
    async with upstream(kind, whole) as first, routed(sidecar, table(first)) as memory:
        status, body, _ = await ask(memory, **more)
        assert status == 400
        assert body["error"]["code"] == "unsupported_parameter"
        assert body["error"]["param"] == field
        assert first.asked == []


async def test_what_an_upstream_cannot_honour_leads_to_a_provider_that_can(sidecar: MemorySidecar) -> None:
    async with upstream("openai", whole) as first, routed(sidecar, table(first, local=True)) as memory:
        assert text_of(await ask(memory, top_k=3)) == "from here"
        assert text_of(await ask(memory, top_k=0)) == TEXT
        assert text_of(await ask(memory, headers=[("x-mlx-sidecar-explain-cache", "1")])) == "from here"
        assert text_of(await ask(memory, headers=[("x-mlx-sidecar-priority", "high")])) == "from here"
        assert memory.gateway.figures()["providers"]["local"]["retries"] == 0


async def test_what_a_client_did_not_name_is_left_to_the_upstream(sidecar: MemorySidecar) -> None:
    async with upstream("openai", whole) as first, routed(sidecar, table(first)) as memory:
        visit = await memory.visit("/api/chat", {"model": "m", "messages": HELLO, "stream": False}).run()
        assert visit.status == 200
        assert not {"temperature", "top_k", "top_p"} & first.asked[0].body.keys()
        asked = {"model": "m", "messages": HELLO, "stream": False, "options": {"top_k": 40}}
        visit = await memory.visit("/api/chat", asked).run()
        assert visit.status == 400
        assert json.loads(visit.body)["param"] == "options.top_k"
        visit = await memory.visit("/api/chat", {"model": "m", "messages": HELLO, "keep_alive": 5}).run()
        assert json.loads(visit.body)["param"] == "keep_alive"


async def test_the_guard_of_the_gateway_is_its_own_sidecar_s_and_one_that_a_client_names_is_asked_for(
    sidecar: MemorySidecar,
) -> None:
    async with upstream("openai", whole) as first, routed(sidecar, table(first), repeat_guard=12) as memory:
        assert text_of(await ask(memory)) == TEXT
        status, body, _ = await ask(memory, repeat_guard=12)
        assert (status, body["error"]["param"]) == (400, "repeat_guard")


async def test_a_wish_for_reasoning_is_refused_by_the_name_of_its_surface(sidecar: MemorySidecar) -> None:
    more = ", refuses: [reasoning_effort]"
    async with upstream("openai", whole) as first, routed(sidecar, table(first, more=more)) as memory:
        chat = {"model": "m", "messages": HELLO, "max_tokens": 2000}
        asked: list[tuple[str, dict[str, Any], str]] = [
            ("/chat/completions", {**chat, "reasoning_effort": "low"}, "reasoning_effort"),
            ("/chat/completions", {**chat, "chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
            ("/responses", {"model": "m", "input": "a", "reasoning": {"effort": "low"}}, "reasoning.effort"),
            ("/messages", {**chat, "thinking": {"type": "disabled"}}, "thinking"),
            ("/messages", {**chat, "thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.budget_tokens"),
            ("/api/chat", {"model": "m", "messages": HELLO, "think": True}, "think"),
            ("/api/chat", {"model": "m", "messages": HELLO, "think": "low"}, "think"),
        ]
        for path, body, field in asked:
            visit = await memory.visit(path, body).run()
            told = json.loads(visit.body)
            assert visit.status == 400
            assert (told if path.startswith("/api") else told["error"])["param"] == field
        assert first.asked == []


async def test_only_generations_go_to_other_providers(sidecar: MemorySidecar) -> None:
    async with upstream("openai", whole) as first, routed(sidecar, table(first)) as memory:
        for path, body in (("/embeddings", {"input": "a"}), ("/tokenize", {"content": "a"}), ("/api/chat", {})):
            visit = await memory.visit(path, {"model": "m", **body}).run()
            assert visit.status == 400
            assert b"unsupported_parameter" in visit.body
    async with upstream("openai", whole) as first, routed(sidecar, table(first, local=True)) as memory:
        visit = await memory.visit("/tokenize", {"model": "other", "content": "a"}).run()
        assert visit.status == 200
        assert first.asked == []


# Responses.


async def respond(memory: InMemory, text: str, **more: Any) -> Any:
    visit = await memory.visit("/responses", {"model": "m", "input": text, **more}).run()
    return visit.status, json.loads(visit.body)


async def test_a_response_of_an_upstream_is_kept_and_continued_there_and_here(sidecar: MemorySidecar) -> None:
    async with upstream("anthropic", whole) as first, routed(sidecar, table(first, local=True)) as memory:
        _, kept = await respond(memory, "one", instructions="be brief")
        status, second = await respond(memory, "two", previous_response_id=kept["id"])
        assert status == 200
        said = [(turn["role"], turn["content"][-1]["text"]) for turn in first.answers[1].body["messages"]]
        assert said == [("user", "one"), ("assistant", TEXT), ("user", "two")]
        assert "system" not in first.answers[1].body, "instructions are those of each request"
        # The own sidecar continues it, and what it has made itself goes nowhere else.
        status, third = await respond(memory, "three", previous_response_id=second["id"], top_logprobs=0, min_p=0.5)
        assert status == 200, third
        assert third["output"][0]["content"][0]["text"] == "from here"
        status, fourth = await respond(memory, "four", previous_response_id=third["id"])
        assert fourth["output"][0]["content"][0]["text"] == "from here"
        assert len(first.answers) == 2


async def test_a_response_of_the_own_sidecar_is_not_continued_where_no_route_leads_to_it(
    sidecar: MemorySidecar,
) -> None:
    async with upstream("openai", whole) as first, routed(sidecar, table(first), models=()) as memory:
        status, body = await respond(memory, "one", previous_response_id="resp_" + "0" * 32)
        assert (status, body["error"]["code"]) == (400, "previous_response_not_found")
        status, body = await respond(memory, "one", truncation="auto")
        assert (status, body["error"]["param"]) == (400, "truncation")


# Hops, time and health.


async def test_a_request_that_comes_round_is_refused(sidecar: MemorySidecar) -> None:
    async with upstream("openai", whole) as first, routed(sidecar, table(first)) as memory:
        await ask(memory, headers=[(VIA, "a, b")])
        via = first.asked[0].headers[VIA]
        assert via == f"a, b, {providers_of(memory).id}"
        status, body, headers = await ask(memory, headers=[(VIA, via)])
        assert (status, body["error"]["code"], headers["x-should-retry"]) == (508, "loop_detected", "false")
        status, body, _ = await ask(memory, headers=[(VIA, ",".join("abcdefgh"))])
        assert body["error"]["code"] == "loop_detected"
        status, body, _ = await ask(memory, headers=[(VIA, "a b")])
        assert (status, body["error"]["param"]) == (400, VIA)
        assert len(first.asked) == 1


async def test_an_upstream_sees_its_own_key_and_nothing_of_the_client_s_headers(sidecar: MemorySidecar) -> None:
    more = ", key_env: UPSTREAM_KEY"
    headers = [("authorization", "Bearer mine"), ("x-api-key", "mine"), ("cookie", "mine"), ("user-agent", "mine")]
    kinds: list[Kind] = ["openai", "anthropic"]
    for kind in kinds:
        async with upstream(kind, whole) as first, routed(sidecar, table(first, more=more)) as memory:
            await ask(memory, headers=headers)
            sent = first.asked[0].headers
            assert "mine" not in " ".join(sent.values())
            assert (sent.get("authorization"), sent.get("x-api-key")) in ((f"Bearer {KEY}", None), (None, KEY))


async def test_a_deadline_ends_a_request_upstream(sidecar: MemorySidecar) -> None:
    async def hang(connection: Connection) -> None:
        await connection.gone()

    async with upstream("openai", hang) as first, routed(sidecar, table(first)) as memory:
        status, body, _ = await ask(memory, headers=[("x-mlx-sidecar-deadline-s", "0.2")])
        assert (status, body["error"]["code"]) == (504, "deadline_passed")
        assert memory.gateway.figures()["providers"]["u0"]["failures"] == 0


async def test_it_is_ready_while_any_route_is(sidecar: MemorySidecar) -> None:
    async with (
        upstream("openai", refusing(500)) as first,
        routed(sidecar, table(first, more=", breaker_failures: 1")) as memory,
    ):
        assert await memory.gateway.is_ready()
        await ask(memory)
        assert not await memory.gateway.is_ready()
        assert await memory.gateway.is_alive()
    more = ", breaker_failures: 1"
    async with (
        upstream("openai", refusing(500)) as first,
        routed(sidecar, table(first, more=more, local=True)) as memory,
    ):
        await ask(memory)
        assert await memory.gateway.is_ready()


async def test_a_name_of_the_table_is_offered_and_an_alias_leads_to_it(sidecar: MemorySidecar) -> None:
    async with upstream("openai", whole) as first, routed(sidecar, table(first)) as memory:
        assert [offer.name for offer in await memory.gateway.offers()] == ["m", "other"]
        assert text_of(await ask(memory, model="other")) == TEXT
        assert (await ask(memory, model="nobody"))[0] == 404
        visit = await memory.visit("/chat/completions", {"messages": HELLO}).run()
        assert visit.status == 200, "the first is the default"


async def test_connections_are_used_again(sidecar: MemorySidecar) -> None:
    async with upstream("openai", whole) as first, routed(sidecar, table(first)) as memory:

        async def chunked(connection: Connection) -> None:
            head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            events = b"".join(events_of(connection))
            await connection.stream.send(head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(events), events))

        first.behave, first.keeps = chunked, True
        for _ in range(3):
            assert text_of(await ask(memory)) == TEXT
        assert (len(first.answers), first.connections) == (3, 1)

"""Sixteen chats at once against the servers, and the cost of seeds."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from ...measure import Row
from ..bench import Bench, Outcome, faster, in_turns
from ..contender import Contender
from ..figures import milliseconds, ratio
from ..load import Run, closed

CHATS = 16
TURNS = 2
PROMPT = 64
SEEDED = "with seeds"


async def run(bench: Bench) -> Outcome:
    """Let 16 clients send one message after another, at temperature 0.7, for two answers each.

    The models have 16M parameters, and 1M, where the cost around the arithmetic shows. A seed takes a request out of
    mlx_lm.server's batch.
    """
    rows, missing = await _chats(bench)
    if bench.form.size != "1M":
        small, _ = await _chats(bench.changed(size="1M"))
        rows += small
    return Outcome(rows + missing)


async def _chats(bench: Bench) -> tuple[list[Row], list[Row]]:
    chats = f"{CHATS} chats, {bench.form.size}"
    async with AsyncExitStack() as stack:
        ours = bench.ours()
        servers, missing = bench.servers()
        everybody: list[Contender] = [ours, *servers]
        await bench.start(stack, *everybody)
        for contender in everybody:
            await _round(bench, contender)  # mlx-lm compiles a sampler for the temperature
        runs: dict[str, Callable[[], Awaitable[Run]]] = {
            contender.name: partial(_round, bench, contender) for contender in everybody
        }
        runs[SEEDED] = partial(_round, bench, ours, seeds=True)
        done = await in_turns(min(3, bench.form.rounds), runs)
        seeded_peer = await _round(bench, servers[0], seeds=True)
    rows = []
    mine = done[ours.name]
    for server in servers:
        asked = ("≥ 3×", "≤ 0.1×") if server is servers[0] else ("", "")
        peer = done[server.name]
        rows.append(faster(f"{chats}: ours against {server.name}", mine, peer, asked[0]))
        rows.append(_worst(f"{chats}, worst first token: ours against {server.name}", mine, peer, asked[1]))
    rows.append(faster(f"{chats}: ours with a seed in each request against without", done[SEEDED], mine, "1.0×"))
    figure = f"{seeded_peer.tokens_per_s:,.0f} tok/s, worst first token {milliseconds(max(seeded_peer.first_tokens_s))}"
    rows.append(Row(f"{chats}: {servers[0].name} with a seed in each request", figure))
    return rows, missing


async def _round(bench: Bench, contender: Contender, *, seeds: bool = False) -> Run:
    requests = bench.prompts.requests(
        CHATS * TURNS, PROMPT, bench.form.answer, chat=True, settings={"temperature": 0.7}
    )
    if seeds:
        requests = [replace(request, seed=n) for n, request in enumerate(requests)]
    return await closed(contender, CHATS, requests)


def _worst(what: str, ours: list[Run], peer: list[Run], asked: str) -> Row:
    mine, theirs = ([max(run.first_tokens_s, default=math.inf) for run in runs] for runs in (ours, peer))
    found = ratio(mine, theirs)
    return Row(what, f"{found}; {milliseconds(found.ours)} against {milliseconds(found.peer)}", asked)

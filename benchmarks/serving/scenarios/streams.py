"""Many streams at once: tokens per second with equal and with different sampling, and by the number of streams."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from ...measure import Row
from ..bench import Bench, Outcome, Plot, compete, faster, middle_speed
from ..contender import Contender
from ..load import closed
from ..plots import throughput
from ..request import Request

PROMPT = 32
WARM = {"temperature": 0.8}


async def run(bench: Bench) -> Outcome:
    """Run closed loops of 32 clients with two requests each (one with 100M parameters) of 32 prompt tokens.

    The mixed settings differ in temperature, top-k, top-p, min-p and seed; the peer is spared the seeds, which it does
    not have.
    """
    async with AsyncExitStack() as stack:
        ours, peer = bench.ours(), bench.batch_generator()
        servers, missing = bench.servers()
        await bench.start(stack, ours, peer, *servers)
        rows = await _samplings(bench, ours, peer, turns=2)
        curves = await _curve(bench, [ours, peer, *servers])
    if bench.form.rounds > 1:
        rows += await _large(bench.changed(size="100M", rounds=2, answer=16))
    rows += [_curve_row(name, curve) for name, curve in curves.items()]
    plot = Plot("streams", "Tokens per second against streams, greedy", partial(throughput, curves))
    return Outcome(rows + missing, [plot])


async def _samplings(bench: Bench, ours: Contender, peer: Contender, turns: int) -> list[Row]:
    clients = bench.form.streams
    ways: dict[str, tuple[str, dict[str, Any] | None]] = {
        "greedy": ("≥ 1.0×", {}),
        "one temperature": ("≥ 1.0×", WARM),
        f"{clients} settings and seeds": ("≥ 1.3×", None),
    }
    rows = []
    for way, (asked, settings) in ways.items():
        for contender in (ours, peer):
            # mlx-lm compiles the steps of its samplers for every value they have, when they are first used.
            first = [replace(request, max_tokens=2) for request in _requests(bench, 1, settings)]
            await closed(contender, clients, first)
        done = await compete(bench.form.rounds, [ours, peer], clients, partial(_requests, bench, turns, settings))
        what = f"{clients} streams, {bench.form.size}, {way}: {ours.name} against {peer.name}"
        rows.append(faster(what, done[ours.name], done[peer.name], asked))
    return rows


async def _large(bench: Bench) -> list[Row]:
    """Run a shorter form with the largest model."""
    async with AsyncExitStack() as stack:
        ours, peer = bench.ours(), bench.batch_generator()
        await bench.start(stack, ours, peer)
        return await _samplings(bench, ours, peer, turns=1)


def _requests(bench: Bench, turns: int, settings: dict[str, Any] | None) -> list[Request]:
    """Make ``turns`` requests for each client; with ``settings`` None, other settings for each client."""
    clients = bench.form.streams
    requests = bench.prompts.requests(turns * clients, PROMPT, bench.form.answer)
    if settings is not None:
        return [replace(request, settings=settings) for request in requests]
    return [replace(request, settings=mixed(n % clients), seed=n) for n, request in enumerate(requests)]


def mixed(n: int) -> dict[str, Any]:
    """Return the ``n``-th way of sampling; no two are alike."""
    settings: dict[str, Any] = {"temperature": 0.5 + 0.02 * n}
    kinds: list[dict[str, Any]] = [{}, {"top_k": 10 + n}, {"top_p": 0.8 + 0.005 * n}, {"min_p": 0.02 + 0.001 * n}]
    return settings | kinds[n % len(kinds)]


async def _curve(bench: Bench, contenders: list[Contender]) -> dict[str, dict[int, float]]:
    """Tokens per second of each contender at each number of streams."""
    curves: dict[str, dict[int, float]] = {contender.name: {} for contender in contenders}
    for streams in (2**n for n in range(bench.form.streams.bit_length())):
        asked = partial(bench.prompts.requests, streams, PROMPT, bench.form.answer)
        done = await compete(min(2, bench.form.rounds), contenders, streams, asked)
        for name, runs in done.items():
            curves[name][streams] = middle_speed(runs)
    return curves


def _curve_row(name: str, curve: dict[int, float]) -> Row:
    figure = ", ".join(f"{streams}: {speed:,.0f}" for streams, speed in curve.items())
    return Row(f"tokens/s at 1 to {max(curve)} streams, greedy: {name}", figure)

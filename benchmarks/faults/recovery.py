"""How long a running stream waits from the death of its engine to its next delta.

The wait is compared with its necessary parts: an engine's start, the load of the model, and the prefill of prompt and
answer so far. These are measured in the same round: an idle engine is killed and is ready again with nothing to load,
then the model is loaded, then a prompt of that length is answered with one token.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from ..measure import Row
from ..promises import Frame
from ..serving.models import Prompts, make
from .host import Host, State, within
from .report import Report

# Tokens of an answer, and deltas after which the engine is killed; on a slow machine a delta has many tokens.
_PROMPT, _BEFORE, _ANSWER = 1024, 8, 320
_MORE_S = 0.3


class Round(NamedTuple):
    """Seconds of one round."""

    start_s: float
    load_s: float
    prefill_s: float
    waited_s: float

    @property
    def more_s(self) -> float:
        return self.waited_s - self.start_s - self.load_s - self.prefill_s


def run(seed: int, quick: bool) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(seed, quick, Path(folder)))


async def _run(seed: int, quick: bool, folder: Path) -> Report:
    rows, broken = [], []
    for size in ("pocket",) if quick else ("1M", "16M"):
        prompts = Prompts(seed)
        model = size if size == "pocket" else str(make(size, folder))
        rounds = []
        for _ in range(1 if quick else 7):
            async with Host() as host:
                rounds.append(await _round(host, model, prompts))
            broken += host.promises.broken
        rows.append(_row(size, rounds, judged=not quick))
    broken += [f"{row.what}: {row.figure}" for row in rows if "BROKEN" in row.figure]
    return Report(rows, broken)


async def _round(host: Host, model: str, prompts: Prompts) -> Round:
    await host.entered("ready")
    ready = await _killed(host)
    starting = next(state for state in reversed(host.states[: ready.number]) if state.name == "starting")
    load_s = await _took(host, {"model": model})
    prefill_s = await _first_token_s(host, _request(model, prompts, _PROMPT + _BEFORE, 1))
    return Round(ready.at_s - starting.at_s, load_s, prefill_s, await _waited_s(host, model, prompts))


async def _killed(host: Host) -> State:
    since = len(host.states)
    pid = host.engine_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return await host.entered("ready", since)


async def _took(host: Host, load: Frame) -> float:
    began = time.monotonic()
    await host.call("load", load)
    return time.monotonic() - began


async def _first_token_s(host: Host, params: Frame) -> float:
    began = time.monotonic()
    delta = host.next_delta(params["stream"])
    answer = host.ask(params)
    first_s = await within("delta", delta) - began
    await within("answer", answer)
    return first_s


async def _waited_s(host: Host, model: str, prompts: Prompts) -> float:
    """Seconds from the kill of an engine in the middle of an answer until the next delta."""
    params = _request(model, prompts, _PROMPT, _ANSWER)
    answer = host.ask(params)
    for _ in range(_BEFORE):
        await within("delta", host.next_delta(params["stream"]))
    pid = host.engine_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    killed_s = time.monotonic()
    await within("stream/interrupted", host.interrupted.wait())
    waited_s = await within("delta", host.next_delta(params["stream"])) - killed_s
    await within("answer", answer)
    return waited_s


def _request(model: str, prompts: Prompts, tokens: int, max_tokens: int) -> Frame:
    prompt = prompts.request(tokens, max_tokens)
    what = {"prompt": prompt.text} if model == "pocket" else {"tokens": prompt.tokens}
    stream = f"{tokens}/{max_tokens}"
    return {"model": model, **what, "max_tokens": max_tokens, "stream": stream, "ignore_eos": True}


def _row(size: str, rounds: list[Round], *, judged: bool) -> Row:
    start_s, load_s, prefill_s, waited_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    more = [each.more_s for each in rounds]
    figure = f"waited {waited_s:.2f} s; start {start_s:.2f} s, load {load_s:.2f} s, prefill {prefill_s:.2f} s; "
    figure += f"{statistics.median(more):+.2f} s ({min(more):+.2f} to {max(more):+.2f})"
    worse = judged and statistics.median(more) > _MORE_S
    return Row(f"{size}, {_PROMPT} tokens, medians of {len(rounds)}", figure + " BROKEN" * worse, f"{_MORE_S:+} s")

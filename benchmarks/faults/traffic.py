"""Requests from a seed, many at once, while the engine that answers them is disturbed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Iterable, Iterator
from itertools import count

from ..promises import Frame
from ..serving.models import Prompts
from .host import PATIENCE_S, Host

_SAME = ("text", "tokens", "finish_reason", "stop_match")


class Traffic:
    """Requests from a seed: the ``n``-th is the same at each call.

    Greedy and seeded, streamed and not, with stop strings, penalties, log probabilities, windows; one in five is for
    pocket, the others for ``model``. ``wild``: some are cancelled or have a deadline, priorities differ.
    """

    def __init__(self, seed: int, model: str, longest: int = 300, *, wild: bool = False) -> None:
        self._pick = random.Random(seed)
        self._prompts = Prompts(seed)
        self._model = model
        self._longest = longest
        self._wild = wild
        self._made: list[Frame] = []

    def __getitem__(self, n: int) -> Frame:
        while len(self._made) <= n:
            self._made.append(self._make(len(self._made)))
        return self._made[n]

    def _make(self, n: int) -> Frame:
        pick = self._pick
        prompt = self._prompts.request(pick.choice([pick.randint(1, 64), pick.randint(64, 300)]), 1)
        what: Frame = {"model": self._model, "tokens": prompt.tokens}
        if pick.random() < 0.2:
            what = {"model": "pocket", "prompt": prompt.text}
        most = self._longest
        what["max_tokens"] = pick.choice([1, pick.randint(2, most), pick.randint(2, most), most])
        return what | self._sampling() | self._handling(n)

    def _sampling(self) -> Frame:
        pick = self._pick
        seeded: Frame = {"temperature": pick.uniform(0.3, 1.5), "seed": pick.randrange(2**40)}
        ways: list[Frame] = [
            {},
            {"ignore_eos": True},
            {"stop": [" the", "x1"]},
            {"repetition_penalty": 1.2, "frequency_penalty": 0.5, "presence_penalty": 0.2},
            {"logprobs": pick.randint(0, 5)},
            seeded,
            {**seeded, "top_p": pick.uniform(0.1, 1), "top_k": pick.randint(1, 200)},
            {**seeded, "min_p": pick.uniform(0, 0.5), "stop": [" the", "x12", "e"], "ignore_eos": True},
            {**seeded, "logprobs": pick.randint(0, 5)},
            {**seeded, "repetition_penalty": 1.1, "logit_bias": {str(pick.randrange(2000)): pick.uniform(-50, 9)}},
        ]
        return pick.choice(ways)

    def _handling(self, n: int) -> Frame:
        pick = self._pick
        handling: Frame = {}
        if pick.random() < 0.75:
            handling["stream"] = str(n)
            if pick.random() < 0.2:
                handling |= {"stream": f"{n}/window", "window": pick.randint(1, 8)}
        if self._wild:
            handling["priority"] = pick.choice(["critical", "high", "normal", "normal", "low"])
            if pick.random() < 0.1:
                handling["deadline_s"] = pick.uniform(0.05, 3)
        return handling

    def cancel_after_s(self, n: int) -> float | None:
        """Return after how many seconds the host cancels the ``n``-th request; None if it does not."""
        pick = random.Random(n)
        return pick.uniform(0, 1.5) if self._wild and pick.random() < 0.15 else None


async def under_load(host: Host, traffic: Traffic, streams: int, disturbance: Awaitable[None]) -> dict[int, Frame]:
    """Keep ``streams`` requests open until ``disturbance`` is over, wait for the last, and return answers by request.

    A request without an answer is missing there, and counts as a broken promise. Raises Stuck if ``disturbance`` does,
    and ContenderFailed if the sidecar ends.
    """
    load = _Load(host, traffic, count())
    clients = [asyncio.create_task(load.client()) for _ in range(streams)]
    try:
        await disturbance
    finally:
        load.over = True
        await _settled(host, clients)
    return load.answers


async def answers_to(host: Host, traffic: Traffic, wanted: Iterable[int], streams: int) -> dict[int, Frame]:
    """Return the answers to these requests, sent ``streams`` at once."""
    load = _Load(host, traffic, iter(sorted(wanted)))
    await _settled(host, [asyncio.create_task(load.client()) for _ in range(streams)])
    return load.answers


class _Load:
    """Clients that take the next request as soon as the one before is answered."""

    def __init__(self, host: Host, traffic: Traffic, numbers: Iterator[int]) -> None:
        self.answers: dict[int, Frame] = {}
        self.over = False
        self._host = host
        self._traffic = traffic
        self._numbers = numbers

    async def client(self) -> None:
        for n in self._numbers:
            if self.over:
                return
            answer = self._host.ask(self._traffic[n])
            if (after_s := self._traffic.cancel_after_s(n)) is not None:
                asyncio.get_running_loop().call_later(after_s, self._host.cancel, answer)
            self.answers[n] = await answer


async def _settled(host: Host, clients: Iterable[asyncio.Task[None]]) -> None:
    """Wait for ``clients`` as long as the host reads frames."""
    waiting = set(clients)
    host.heard_s = time.monotonic()
    while waiting and (left_s := left(host.heard_s, time.monotonic())) > 0:
        done, waiting = await asyncio.wait(waiting, timeout=left_s)
        for client in done:
            client.result()
    for client in waiting:
        client.cancel()


def left(heard_s: float, now: float, patience_s: float = PATIENCE_S) -> float:
    """Return how many seconds more a host may wait that read a frame last at ``heard_s``; 0 if that is a hang."""
    return max(0.0, heard_s + patience_s - now)


def differing(disturbed: dict[int, Frame], undisturbed: dict[int, Frame]) -> list[int]:
    """Return the requests whose answers differ in text, tokens or way of ending, or are in one of both only.

    A request that was cancelled or ran out of time in either is not compared, because its end depends on timing.
    """
    return [n for n in sorted(disturbed | undisturbed) if not _same(disturbed.get(n), undisturbed.get(n))]


def _same(one: Frame | None, other: Frame | None) -> bool:
    if one is None or other is None:
        return False
    if any(_cut_short(answer) for answer in (one, other)):
        return True
    if "result" not in one or "result" not in other:
        return False
    return all(one["result"].get(name) == other["result"].get(name) for name in _SAME)


def _cut_short(answer: Frame) -> bool:
    if "error" in answer:
        return bool(answer["error"]["code"] == -32800)
    return answer["result"]["finish_reason"] in ("cancelled", "deadline")

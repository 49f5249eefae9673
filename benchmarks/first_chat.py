"""The first chat of a process against its second: whether a host waits for templates that were there to be compiled.

A fresh sidecar loads pocket and then answers two chats of as many tokens, one after the other. Times are from a request
to its first delta.

    python -m benchmarks.first_chat
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence

from .measure import Row, table
from .serving.figures import milliseconds, ratio
from .serving.models import Prompts
from .serving.sidecar import SERVE, Sidecar

ROUNDS = 9
TOKENS = 24


async def first_deltas_s(prompts: Prompts, command: Sequence[str] = SERVE) -> tuple[float, float]:
    """Seconds to the first delta of the first chat and of the second, in one process that ``command`` starts."""
    async with Sidecar("pocket", command=command) as ours:
        first, second = [await _first_delta_s(ours, prompts) for _ in range(2)]
    return first, second


async def _first_delta_s(ours: Sidecar, prompts: Prompts) -> float:
    chat = prompts.request(TOKENS, 4, chat=True, settings={"ignore_eos": True})
    return (await ours.start(chat).result()).first_token_s


async def _rounds() -> list[tuple[float, float]]:
    prompts = Prompts(seed=1)
    await first_deltas_s(prompts)  # fills the page cache and compiles bytecode
    return [await first_deltas_s(prompts) for _ in range(ROUNDS)]


def run() -> list[Row]:
    first, second = zip(*asyncio.run(_rounds()), strict=True)
    figure = f"{ratio(first, second)}: {_range(first)} against {_range(second)}"
    return [Row("first delta of the first chat after `load`, against the second chat's", figure, "≤ 2×")]


def _range(times_s: Sequence[float]) -> str:
    return f"{milliseconds(statistics.median(times_s))} ({milliseconds(min(times_s))} to {milliseconds(max(times_s))})"


if __name__ == "__main__":
    print(table(run()))

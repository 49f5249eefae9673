"""Two checkouts of mlx-sidecar against each other, in turns: what a change has cost, or gained.

Everything goes over the wire, so the two may differ inside as they like. In each round the old one is measured and then
the new one, with the same requests; a figure is the median of the rounds' ratios new/old, with the least and the
greatest. Rates above 1 are faster, times below 1 are. On a machine with other work, processor time says more than the
clock.

    python -m benchmarks.against OLD [--new NEW] [--rounds N] [--only startup,startup_bare,first_chat,front,pocket,16M]

OLD and NEW are ``mlx-sidecar`` executables, each in the environment of its checkout; NEW is that of this Python.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from .first_chat import first_deltas_s
from .measure import Row, machine, table
from .serving.figures import ratio
from .serving.load import Run, burst, closed
from .serving.models import Prompts, make
from .serving.request import Request
from .serving.sidecar import Sidecar
from .startup import start
from .wire import pings_per_second, process

ROUNDS = 7
ANSWER_TOKENS = 128
PROMPT_TOKENS, LONG_PROMPT_TOKENS = 16, 256
CLIENTS, REQUESTS = 16, 800
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True}
SAMPLED: dict[str, Any] = {"temperature": 0.8, "top_p": 0.95, "ignore_eos": True}
DECODING = {
    "1 stream": (1, GREEDY),
    "8 streams": (8, GREEDY),
    "32 streams": (32, GREEDY),
    "8 streams, top_p 0.95": (8, SAMPLED),
}
KEPT = "≥ 0.97×"

Command = tuple[str, ...]
Measure = Callable[[Sidecar, Prompts], Awaitable[tuple[float, ...]]]


def compared(what: str, unit: str, rounds: Sequence[tuple[float, float]], asked: str = "") -> Row:
    """One figure of the old and of the new, round by round. ``asked`` is of the ratio new/old."""
    old, new = zip(*rounds, strict=True)
    found = ratio(new, old)
    figure = f"{found}: {_rounded(found.ours)} against {_rounded(found.peer)} {unit}"
    return Row(f"{what}, new/old", figure, asked)


def _rounded(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


@dataclass(frozen=True)
class Pair:
    """How the old and the new are served, and how many rounds they are measured."""

    old: Command
    new: Command
    rounds: int

    async def startup(self, without: str = "", **environment: str) -> AsyncIterator[Row]:
        starts = [[start(side, **environment) for side in (self.old, self.new)] for _ in range(self.rounds + 1)]
        rounds = list(zip(*starts[1:], strict=True))  # the first fills caches
        for name, what in (
            ("initialize_s", "`initialize` answered"),
            ("processor_s", "`initialize` answered, processor time of the front"),
            ("engine_s", "engine that takes work"),
            ("first_token_s", "first token of pocket"),
        ):
            old, new = ([getattr(each, name) for each in side] for side in rounds)
            row = compared(f"spawn to {what}{without}", "s", list(zip(old, new, strict=True)))
            # On a machine with other work the least of the rounds says what the start itself takes.
            yield replace(row, figure=f"{row.figure}; least {min(new):.3g} against {min(old):.3g}")

    async def startup_bare(self) -> AsyncIterator[Row]:
        """Starts that find nothing compiled, not even of Python's own library, and leave nothing."""
        with tempfile.TemporaryDirectory() as empty:
            nothing = {"PYTHONPYCACHEPREFIX": empty, "PYTHONDONTWRITEBYTECODE": "1"}
            async for row in self.startup(", without bytecode", **nothing):
                yield row

    async def first_chat(self) -> AsyncIterator[Row]:
        prompts = Prompts(seed=1)
        rounds = [[await first_deltas_s(prompts, side) for side in (self.old, self.new)] for _ in range(self.rounds)]
        for number, what in enumerate(("first", "second")):
            pairs = [(1e3 * old[number], 1e3 * new[number]) for old, new in rounds]
            yield compared(f"first delta of a process's {what} chat", "ms", pairs)

    async def front(self) -> AsyncIterator[Row]:
        """The front alone, over the fake engine."""
        fake = ("--engine", "fake")
        with ExitStack() as stack:
            sides = [stack.enter_context(process(*command, *fake)) for command in (self.old, self.new)]
            rounds = [[pings_per_second(side) for side in sides] for _ in range(self.rounds + 1)][1:]
        yield compared("pings, pipelined", "per s", [(old, new) for old, new in rounds], KEPT)

        what = f"`generate` of one token, fake engine, {CLIENTS} clients"
        # An answer is one token, so tokens per second are requests per second.
        figures = [(what, "requests/s", KEPT), (f"{what}: processor time", "ms/request", "")]
        for row in await self.compare("fake", _requests, figures, *fake):
            yield row

    async def decoding(self, name: str, model: Path | str) -> AsyncIterator[Row]:
        """Tokens per second of streams that begin together, and the time to the first token of one alone."""
        for streams, (count, settings) in DECODING.items():
            figures = [(f"{name}, {streams}", "tok/s", KEPT), (f"{name}, {streams}: processor time", "ms/token", "")]
            for row in await self.compare(model, partial(_streams, count, settings), figures):
                yield row
        first = [(f"{name}, first token after {LONG_PROMPT_TOKENS}", "ms", "")]
        for row in await self.compare(model, _first_token, first):
            yield row

    async def compare(
        self, model: Path | str, measure: Measure, figures: Sequence[tuple[str, str, str]], *options: str
    ) -> list[Row]:
        """``measure`` of both in turns, each in a process of its own, after one turn that does not count.

        Both get the same prompts in the same order. ``figures`` are what ``measure`` returns: name, unit, and what is
        asked of the ratio.
        """
        async with AsyncExitStack() as stack:
            sides = [
                (await stack.enter_async_context(Sidecar(model, *options, command=command)), Prompts(seed=1))
                for command in (self.old, self.new)
            ]
            rounds = [[await measure(*side) for side in sides] for _ in range(self.rounds + 1)][1:]
        columns = [[(old[n], new[n]) for old, new in rounds] for n in range(len(figures))]
        return [
            compared(what, unit, column, asked) for (what, unit, asked), column in zip(figures, columns, strict=True)
        ]


async def _streams(count: int, settings: dict[str, Any], side: Sidecar, prompts: Prompts) -> tuple[float, ...]:
    requests = [prompts.request(PROMPT_TOKENS, ANSWER_TOKENS, settings=settings) for _ in range(count)]
    return await _rates(side, burst(side, requests))


async def _requests(side: Sidecar, _: Prompts) -> tuple[float, ...]:
    return await _rates(side, closed(side, CLIENTS, [Request([1, 2, 3], "abc", 1)] * REQUESTS))


async def _rates(side: Sidecar, work: Awaitable[Run]) -> tuple[float, ...]:
    """Tokens per second, and milliseconds of processor time for each token, of all processes of the sidecar."""
    before_s = _processor_s(side)
    run = await work
    return run.tokens_per_s, 1e3 * (_processor_s(side) - before_s) / run.tokens


async def _first_token(side: Sidecar, prompts: Prompts) -> tuple[float, ...]:
    requests = [prompts.request(LONG_PROMPT_TOKENS, 1, settings=GREEDY) for _ in range(5)]
    return (1e3 * statistics.median((await closed(side, 1, requests)).first_tokens_s),)


def _processor_s(side: Sidecar) -> float:
    front = psutil.Process(side.connection.pid)
    times = [process.cpu_times() for process in (front, *front.children(recursive=True))]
    return sum(each.user + each.system for each in times)


async def _run(pair: Pair, names: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], AsyncIterator[Row]]] = {
            "startup": pair.startup,
            "startup_bare": pair.startup_bare,
            "first_chat": pair.first_chat,
            "front": pair.front,
            "pocket": lambda: pair.decoding("pocket (1M)", "pocket"),
            "16M": lambda: pair.decoding("16M", make("16M", Path(folder))),
        }
        rows = []
        for name in names or parts:
            async for row in parts[name]():
                rows.append(row)
                print(row.what, row.figure, sep=": ", file=sys.stderr, flush=True)
    command = shlex.join(["python", "-m", "benchmarks.against", *sys.argv[1:]])
    print(f"{machine()}; {pair.rounds} rounds.\n\n    {command}\n\n{table(rows)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.against")
    parser.add_argument("old", help="the mlx-sidecar executable of the other checkout")
    parser.add_argument("--new", default=str(Path(sys.executable).with_name("mlx-sidecar")))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", type=lambda names: names.split(","), default=[], metavar="NAME,…")
    given = parser.parse_args()
    old, new = ((path, "serve", "--framing", "lines") for path in (given.old, given.new))
    asyncio.run(_run(Pair(old, new, given.rounds), given.only))


if __name__ == "__main__":
    main()

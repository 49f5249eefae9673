"""The tools that a scenario gets, and the outcome that it returns."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..measure import Row
from .batch_generator import Batching
from .contender import Contender
from .figures import Ratio, ratio
from .http_servers import LlamaServer, MlxLmServer
from .load import Run, burst, closed
from .models import Prompts, make
from .request import Request
from .sidecar import Sidecar


@dataclass(frozen=True)
class Form:
    """How much is measured. ``size`` is the model's, lengths are in tokens, one run of open load takes ``seconds``."""

    size: str
    rounds: int
    streams: int  # the most streams at once
    answer: int  # tokens of an answer, on average
    long: int  # tokens of the prompt that others must not wait for
    patience_s: float  # seconds of that prompt's prefill that are measured
    seconds: float
    compared: int  # tokens that are compared between alone and in a batch


# A quarter of an hour for all scenarios where 16M parameters decode 100 tokens/s alone and 900 in a batch of 32.
FULL = Form("16M", 3, streams=32, answer=48, long=16384, patience_s=20.0, seconds=12.0, compared=24_000)
QUICK = Form("1M", 1, streams=8, answer=12, long=2048, patience_s=2.0, seconds=1.0, compared=600)


@dataclass(frozen=True)
class Plot:
    """``draw`` writes a picture to a path; ``shows`` is its caption, one line."""

    name: str
    shows: str
    draw: Callable[[Path], None]


@dataclass(frozen=True)
class Outcome:
    rows: list[Row]
    plots: list[Plot] = field(default_factory=list)


class Bench:
    """Models below ``folder``, prompts, and contenders."""

    def __init__(self, form: Form, folder: Path) -> None:
        self.form = form
        self.prompts = Prompts(seed=3)
        self._folder = folder

    def changed(self, **form: Any) -> Bench:
        """Return this bench in another form; prompts go on where they are."""
        other = Bench(replace(self.form, **form), self._folder)
        other.prompts = self.prompts
        return other

    @property
    def model(self) -> Path:
        return make(self.form.size, self._folder)

    async def start(self, stack: AsyncExitStack, *contenders: Contender) -> None:
        """Start contenders, which end with ``stack``, and let each touch everything once."""
        for contender in contenders:
            await stack.enter_async_context(contender)
            await burst(contender, self.prompts.requests(4, 32, 4))

    def ours(self, *options: str) -> Sidecar:
        return Sidecar(self.model, *options)

    def batch_generator(self) -> Batching:
        return Batching(self.model)

    def servers(self) -> tuple[list[Contender], list[Row]]:
        """Return the HTTP servers that are installed, and a row for each that is not."""
        missing = LlamaServer.missing()
        if missing is None:
            return [MlxLmServer(self.model), LlamaServer(self.model)], []
        return [MlxLmServer(self.model)], [Row(LlamaServer.name, missing)]


async def in_turns(rounds: int, runs: Mapping[str, Callable[[], Awaitable[Run]]]) -> dict[str, list[Run]]:
    """Run each of ``runs`` once in every round, one after the other."""
    done: dict[str, list[Run]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            done[name].append(await run())
    return done


async def compete(
    rounds: int, contenders: Sequence[Contender], clients: int, requests: Callable[[], list[Request]]
) -> dict[str, list[Run]]:
    """Run closed loops in turns, and return runs by contender; each round has new requests, the same for all."""
    done: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        asked = requests()
        for contender in contenders:
            done[contender.name].append(await closed(contender, clients, asked))
    return done


def speeds(runs: Sequence[Run]) -> list[float]:
    """Return the tokens per second of each run."""
    return [run.tokens_per_s for run in runs]


def speed_ratio(ours: Sequence[Run], peer: Sequence[Run]) -> Ratio:
    return ratio(speeds(ours), speeds(peer))


def faster(what: str, ours: Sequence[Run], peer: Sequence[Run], asked: str = "") -> Row:
    """Make a row that compares tokens per second."""
    found = speed_ratio(ours, peer)
    return Row(what, f"{found}; {found.ours:,.0f} against {found.peer:,.0f} tok/s", asked)


def middle_speed(runs: Sequence[Run]) -> float:
    return statistics.median(speeds(runs))

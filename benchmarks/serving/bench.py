"""What a scenario gets to work with, and what it gives back."""

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
    """How much is measured. ``size`` is the model's; lengths in tokens, ``seconds`` is one run of open load."""

    size: str
    rounds: int
    streams: int  # the most at once
    answer: int  # of a request, on average
    long: int  # the prompt that others must not wait for
    patience_s: float  # how long that prompt's prefill is looked at
    seconds: float
    compared: int  # tokens that are compared between alone and in a batch


# A quarter of an hour for all scenarios where 16M parameters decode 100 tokens/s alone and 900 in a batch of 32.
FULL = Form("16M", 3, streams=32, answer=48, long=16384, patience_s=20.0, seconds=12.0, compared=24_000)
QUICK = Form("1M", 1, streams=8, answer=12, long=2048, patience_s=2.0, seconds=1.0, compared=600)


@dataclass(frozen=True)
class Plot:
    """``draw`` writes a picture to a path; ``shows`` says in a line what is to be seen."""

    name: str
    shows: str
    draw: Callable[[Path], None]


@dataclass(frozen=True)
class Outcome:
    rows: list[Row]
    plots: list[Plot] = field(default_factory=list)


class Bench:
    """Models below ``folder``, prompts, and contenders that know where their model is."""

    def __init__(self, form: Form, folder: Path) -> None:
        self.form = form
        self.prompts = Prompts(seed=3)
        self._folder = folder

    def changed(self, **form: Any) -> Bench:
        """The same in another form; prompts go on where they are."""
        other = Bench(replace(self.form, **form), self._folder)
        other.prompts = self.prompts
        return other

    @property
    def model(self) -> Path:
        return make(self.form.size, self._folder)

    async def start(self, stack: AsyncExitStack, *contenders: Contender) -> None:
        """Start them, to be ended with ``stack``, and let each of them touch everything once."""
        for contender in contenders:
            await stack.enter_async_context(contender)
            await burst(contender, self.prompts.requests(4, 32, 4))

    def ours(self, *options: str) -> Sidecar:
        return Sidecar(self.model, *options)

    def batch_generator(self) -> Batching:
        return Batching(self.model)

    def servers(self) -> tuple[list[Contender], list[Row]]:
        """The HTTP servers there are, and a row for each that is not installed."""
        missing = LlamaServer.missing()
        if missing is None:
            return [MlxLmServer(self.model), LlamaServer(self.model)], []
        return [MlxLmServer(self.model)], [Row(LlamaServer.name, missing)]


async def in_turns(rounds: int, runs: Mapping[str, Callable[[], Awaitable[Run]]]) -> dict[str, list[Run]]:
    """Each of ``runs`` once in every round, one after the other."""
    done: dict[str, list[Run]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            done[name].append(await run())
    return done


async def compete(
    rounds: int, contenders: Sequence[Contender], clients: int, requests: Callable[[], list[Request]]
) -> dict[str, list[Run]]:
    """Closed loops in turns, by the contender's name; each round has new requests, the same for all."""
    done: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        asked = requests()
        for contender in contenders:
            done[contender.name].append(await closed(contender, clients, asked))
    return done


def speeds(runs: Sequence[Run]) -> list[float]:
    """Tokens per second of each."""
    return [run.tokens_per_s for run in runs]


def speed_ratio(ours: Sequence[Run], peer: Sequence[Run]) -> Ratio:
    return ratio(speeds(ours), speeds(peer))


def faster(what: str, ours: Sequence[Run], peer: Sequence[Run], asked: str = "") -> Row:
    """A row that compares tokens per second."""
    found = speed_ratio(ours, peer)
    return Row(what, f"{found}; {found.ours:,.0f} against {found.peer:,.0f} tok/s", asked)


def middle_speed(runs: Sequence[Run]) -> float:
    return statistics.median(speeds(runs))

"""Streams and short requests beside a long prompt, by the depth that it has reached: the engine's loop in this process.

Eight streams decode while the long prompt is prefilled, and short requests come one after the other. The unit is a
decode step: the median gap of a stream in which nothing was prefilled, at that depth of the prompt. What a short
request of 32 tokens waits is told beyond the time that it takes alone. The front is a list of messages.

    python -m benchmarks.depth [--size 16M] [--long 16384] [--alone 0] [--patience 60] [--processor-time]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from itertools import count, pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, cast

from mlx_sidecar.engine.assembly import assemble
from mlx_sidecar.engine.core.batch import Event, Role, Work
from mlx_sidecar.engine.execution.backend_policy import settle
from mlx_sidecar.engine.inbox import Background, Heard
from mlx_sidecar.engine.scheduling.scheduler import Limits
from mlx_sidecar.link.control_messages import Load, Loaded
from mlx_sidecar.link.messages import Generate, Sampling, Submit, ToFront, Tokens

from .measure import Row, machine, table
from .serving.figures import milliseconds, percentile
from .serving.models import Prompts, make

if TYPE_CHECKING:
    from mlx_sidecar.engine.inbox import Inbox
    from mlx_sidecar.engine.resident_models import Backend, LoadedModel, LoadStep

STREAMS = 8
SHORT = 32
SETTLED_TOKENS = 24  # of each stream before anything is measured
ENDLESS = 1 << 20
DEPTHS = (0, 1024, 2048, 4096, 8192, 12_288)  # where a row of the table begins
GIVEN_BYTES = 1 << 33
MODEL = "model"


class Gap(NamedTuple):
    """Seconds between two tokens of a stream, in which ``prefilled`` tokens were taken in beside it."""

    seconds: float
    prefilled: int
    depth: int  # of the long prompt


class Wait(NamedTuple):
    """Seconds until a short request's first token, beyond those that it takes alone."""

    seconds: float
    depth: int  # of the long prompt


class Loop:
    """An engine that is turned by hand. ``clock`` gives seconds."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.times: dict[int, list[float]] = {}  # of the tokens of each sequence, as the front hears them
        self.longest = 0  # the sequence whose depth is told
        self.depth = 0
        self.prefilled = 0  # tokens, of all prompts
        self._ids = count(1)
        self._said: SimpleQueue[Heard] = SimpleQueue()
        self._said.put(Load(next(self._ids), MODEL, str(path)))
        self._loaded = False
        backend = _backend(self._step, clock)
        self._engine = assemble(self, cast("Inbox", self), backend, Limits(), GIVEN_BYTES, clock=clock)
        while not self._loaded:
            self._engine.turn()

    def submit(self, tokens: list[int], max_tokens: int) -> int:
        """Submit a prompt, and return the sequence's id."""
        id_ = next(self._ids)
        self._said.put(Submit(id_, MODEL, tokens, Generate(Sampling(), [], max_tokens)))
        self._engine.turn()  # the message is heard at its end
        return id_

    def turn(self) -> None:
        self._engine.turn()

    def first_token_s(self, tokens: list[int]) -> float:
        """Return the seconds until a prompt's first token, from its arrival."""
        began = self.clock()
        id_ = self.submit(tokens, 1)
        while id_ not in self.times:
            self.turn()
        return self.times[id_][0] - began

    def _step(self, work: list[Work]) -> None:
        for sequence, tokens, role in work:
            self.prefilled += tokens * (role is Role.PREFILL)
            if sequence.id == self.longest:
                self.depth = sequence.known + tokens

    # Stands in for the link and the inbox of the engine.

    def send(self, messages: Sequence[ToFront]) -> None:
        now = self.clock()
        for message in messages:
            self._loaded |= isinstance(message, Loaded)
            if isinstance(message, Tokens):
                self.times.setdefault(message.seq, []).append(now)

    def put(self, event: object) -> None:
        self._said.put(Background(event))

    def take(self, timeout_s: float) -> list[Heard]:
        return [self._said.get() for _ in range(self._said.qsize())]


def _backend(hear: Callable[[list[Work]], None], clock: Callable[[], float]) -> Backend:
    """Return mlx's backend, whose batches tell ``hear`` of each step before they do it, and go by ``clock``."""
    policy = settle("fast")  # before anything imports mlx
    from mlx_sidecar.engine.execution.mlx_backend import MlxBackend
    from mlx_sidecar.engine.execution.mlx_batch import MlxBatch

    class Heard(MlxBatch):
        def step(self, work: list[Work], now: float) -> list[Event]:
            hear(work)
            return super().step(work, now)

    class Hearing(MlxBackend):
        def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
            loaded = yield from super().load(load)
            loaded.batch.__class__ = Heard
            assert isinstance(loaded.batch, Heard)
            loaded.batch.clock = clock
            return loaded

    return Hearing(policy, GIVEN_BYTES)


def measure(
    path: Path, long: int, alone: int, patience_s: float, clock: Callable[[], float]
) -> tuple[list[Gap], list[Wait]]:
    """Prefill ``long`` tokens, all but the first ``alone`` beside streams and short requests.

    Returns when they are done or ``patience_s`` have passed since the streams began.
    """
    loop, prompts = Loop(path, clock), Prompts(seed=5)

    def prompt(tokens: int) -> list[int]:
        return prompts.request(tokens, 1).tokens

    own_s = statistics.median(loop.first_token_s(prompt(SHORT)) for _ in range(7))
    if alone:
        loop.longest = loop.submit(prompt(long), 1)
        while loop.depth < alone:
            loop.turn()
    streams = [loop.submit(prompt(SHORT), ENDLESS) for _ in range(STREAMS)]
    while any(len(loop.times.get(stream, ())) < SETTLED_TOKENS for stream in streams):
        loop.turn()
    if not alone:
        loop.longest = loop.submit(prompt(long), 1)
    began = clock()
    gaps: list[Gap] = []
    waits: list[Wait] = []
    heard = loop.times[streams[0]]
    while loop.longest not in loop.times and clock() - began < patience_s:
        arrived = clock()
        short = loop.submit(prompt(SHORT), 1)
        while short not in loop.times and loop.longest not in loop.times:
            told, prefilled = len(heard), loop.prefilled
            loop.turn()
            gaps += [Gap(b - a, loop.prefilled - prefilled, loop.depth) for a, b in pairwise(heard[told - 1 :])]
        if short in loop.times:
            waits.append(Wait(loop.times[short][0] - arrived - own_s, loop.depth))
    return gaps, waits


def rows(gaps: Sequence[Gap], waits: Sequence[Wait]) -> list[Row]:
    """Return a row for each range of depths in which decoding alone was measured."""
    found: list[Row] = []
    for least, most in pairwise((*DEPTHS, ENDLESS)):
        here = [gap for gap in gaps if least <= gap.depth < most]
        alone = [gap.seconds for gap in here if not gap.prefilled]
        if not alone:
            continue
        step_s = statistics.median(alone)
        steps = [gap.seconds / step_s for gap in here]
        delays = [wait.seconds / step_s for wait in waits if least <= wait.depth < most]
        where = f"{least:,} to {max(gap.depth for gap in here):,} tokens deep"
        found.append(Row(f"{where}: gaps of {STREAMS} streams, decode steps", _spread(steps), "≤ 3 at p99"))
        if delays:
            found.append(Row(f"{where}: first token of a short request, decode steps", _spread(delays), "≤ 5"))
        speed = sum(gap.prefilled for gap in here) / sum(gap.seconds for gap in here)
        found.append(Row(f"{where}: prefill; a decode step", f"{speed:,.0f} tok/s; {milliseconds(step_s)}"))
    return found


def _spread(values: Sequence[float]) -> str:
    p50, p95, p99 = (percentile(values, percent) for percent in (50, 95, 99))
    return f"median {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, worst {max(values):.1f} of {len(values):,}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.depth", description=__doc__)
    parser.add_argument("--size", default="16M", help="of the random model")
    parser.add_argument("--long", type=int, default=16_384, help="tokens of the long prompt")
    parser.add_argument("--alone", type=int, default=0, help="tokens of it before the streams come")
    parser.add_argument("--patience", type=float, default=60.0, metavar="SECONDS", help="of its prefill at most")
    parser.add_argument(
        "--processor-time", action="store_true", help="count this process's own, on a machine that others use too"
    )
    args = parser.parse_args()
    clock = time.process_time if args.processor_time else time.monotonic
    with tempfile.TemporaryDirectory() as folder:
        found = measure(make(args.size, Path(folder)), args.long, args.alone, args.patience, clock)
    print(f"{machine()}.\n\n{table(rows(*found))}")


if __name__ == "__main__":
    main()

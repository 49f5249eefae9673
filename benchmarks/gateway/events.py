"""The cost of one event in the gateway's process, for each surface, beside a server that does nothing but write it."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..measure import Row
from ..serving.figures import ratio
from .allocations import compiled
from .streams import Asked, opened
from .watched import Watched

if TYPE_CHECKING:
    from .__main__ import Form

STREAMS = (1, 32, 128)
ASKED_AT = 32
LEAST_EVENTS = 100
PER_MODEL = 32  # streams that a model decodes at once
EVENTS_PER_S = 1600  # of all streams together, so that neither the fake engine nor the machine is at its limit
LOAD_MS = 500  # within which all of a run's requests have come, so that their tokens are due together
ASKED = "≤ 40 µs, ≤ 10× in the same rhythm"
_HELLO = [{"role": "user", "content": "Hello"}]
_MANY = 50_000  # tokens: more than a measurement sees, and few enough to be remembered of 128 streams


@dataclass(frozen=True)
class Shape:
    """A way to ask for a stream: its path, and its body without the model."""

    path: str
    body: dict[str, Any]


SHAPES = {
    "chat/completions": Shape("/v1/chat/completions", {"messages": _HELLO, "stream": True}),
    "completions": Shape("/v1/completions", {"prompt": "Hello", "max_tokens": _MANY, "stream": True}),
    "responses": Shape("/v1/responses", {"input": "Hello", "max_output_tokens": _MANY, "stream": True}),
    "messages": Shape("/v1/messages", {"messages": _HELLO, "max_tokens": _MANY, "stream": True}),
    "api/chat": Shape("/api/chat", {"messages": _HELLO}),
    "api/generate": Shape("/api/generate", {"prompt": "Hello"}),
}


class Spent(NamedTuple):
    """Events a second, and of one: microseconds of processor time, allocations, bytes allocated, bytes written."""

    per_s: float
    cpu_us: float
    allocations: float
    allocated: float
    written: float


class Pair(NamedTuple):
    """The gateway, the bare server in its rhythm, and the bare server as fast as its clients take events."""

    ours: Spent
    paced: Spent
    unpaced: Spent


class _Bench:
    """The two servers, and the length of a measurement in seconds."""

    def __init__(self, ours: Watched, bare: Watched, seconds: float) -> None:
        self._ours, self._bare, self._seconds = ours, bare, seconds
        self._runs = count(1)

    async def pair(self, shape: Shape, streams: int, *, together: bool) -> Pair:
        every_ms = max(1, streams * 1000 // EVENTS_PER_S)
        models = self._models(streams, every_ms, together=together)
        asked = [Asked(shape.path, {**shape.body, "model": model}, share) for model, share in models]
        ours = await self._spent(self._ours, *asked)
        size = max(10, round(ours.written) - 6)  # without the frame of a chunk
        paced = await self._spent(self._bare, Asked(f"/{size}/{every_ms}", {}, streams))
        return Pair(ours, paced, await self._spent(self._bare, Asked(f"/{size}/0", {}, streams)))

    def _models(self, streams: int, every_ms: int, *, together: bool) -> Iterator[tuple[str, int]]:
        """The models of a run, each new, and how many streams each has."""
        for _ in range(0, streams, PER_MODEL):
            load_ms = LOAD_MS if together else 0
            number = next(self._runs)
            options = (
                f"tokens={_MANY}&context={_MANY + 1000}&delay_ms={every_ms}&load_ms={load_ms}&memory_bytes={number}"
            )
            yield f"fake?{options}", min(PER_MODEL, streams)

    async def _spent(self, server: Watched, *asked: Asked) -> Spent:
        async with opened(server.port, *asked) as tally:
            before, began_s, events, written = await server.used(), time.monotonic(), tally.events, tally.bytes
            await asyncio.sleep(self._seconds)
            while tally.events - events < LEAST_EVENTS and tally.lost is None:  # on a machine that is very busy
                await asyncio.sleep(self._seconds)
            after, took_s = await server.used(), time.monotonic() - began_s
            events, written = tally.events - events, tally.bytes - written
        calls, bytes_ = (late - soon for late, soon in zip(after.allocations, before.allocations, strict=True))
        cpu_us = (after.cpu_s - before.cpu_s) * 1e6
        return Spent(events / took_s, cpu_us / events, calls / events, bytes_ / events, written / events)


def run(form: Form) -> list[Row]:
    """Streams of the fake engine, a token an event, 1,600 a second in all; fewer are told where several became one.

    Tokens of all streams are due together, as those of a batch are, or each stream has a time of its own. The bare
    server is uvicorn with an application that writes events of as many bytes: in the same rhythm, where it pays for as
    many awakenings, and at full speed. Processor time is that of the server's process while all streams run.
    Allocations are calls of Python's allocators, counted in a run of its own. The bytes that they asked for are the
    most that can have been copied; nearly all are the 4 KiB with which orjson begins each text, and coroutines.
    """
    return asyncio.run(_run(form))


async def _run(form: Form) -> list[Row]:
    seconds = 0.3 if form.quick else 1.0
    rows: list[Row] = []
    async with _servers(seconds) as bench:
        for streams in STREAMS:
            for name, shape in SHAPES.items():
                for together in (True, False) if streams == ASKED_AT else (True,):
                    pairs = [await bench.pair(shape, streams, together=together) for _ in range(form.rounds)]
                    rows.append(_row(name, streams, pairs, together=together))
    with tempfile.TemporaryDirectory() as folder:
        async with _servers(seconds, compiled(Path(folder))) as bench:
            for name, shape in SHAPES.items():
                rows.append(_allocated(name, await bench.pair(shape, ASKED_AT, together=True)))
    return rows


@asynccontextmanager
async def _servers(seconds: float, counter: Path | None = None) -> AsyncIterator[_Bench]:
    ours = Watched("gateway", "--listen", "127.0.0.1:PORT", "--engine", "fake", counter=counter)
    async with ours, Watched("bare", "PORT", counter=counter) as bare:
        yield _Bench(ours, bare, seconds)


def _row(name: str, streams: int, pairs: list[Pair], *, together: bool) -> Row:
    ours, paced, unpaced = zip(*pairs, strict=True)
    cpu_us, in_rhythm_us, full_us = (statistics.median(each.cpu_us for each in side) for side in (ours, paced, unpaced))
    told = (
        f"{cpu_us:.0f} µs at {statistics.median(each.per_s for each in ours):,.0f} a second; "
        f"{_times(ours, paced)} the bare server's in the same rhythm ({in_rhythm_us:.1f} µs), "
        f"{_times(ours, unpaced)} the same at full speed ({full_us:.1f} µs)"
    )
    whose = f"{streams} streams" + ("" if together else ", each at its own time") if streams > 1 else "1 stream"
    return Row(f"{name}, {whose}: processor time of an event", told, ASKED if streams == ASKED_AT else "")


def _times(ours: Sequence[Spent], bare: Sequence[Spent]) -> str:
    return str(ratio([each.cpu_us for each in ours], [each.cpu_us for each in bare]))


def _allocated(name: str, pair: Pair) -> Row:
    ours, bare = pair.ours, pair.paced
    told = (
        f"{ours.allocations:.0f} of {ours.allocated:,.0f} bytes together, for {ours.written:.0f} bytes written; "
        f"bare: {bare.allocations:.0f} of {bare.allocated:,.0f}"
    )
    return Row(f"{name}, {ASKED_AT} streams: allocations of an event", told)

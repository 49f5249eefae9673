"""llama.cpp with many sequences in one batch, in a process of its own: the loop that its server has, without HTTP.

Requests come by a pipe, and tokens with their times are reported when a request has ended, so that nothing is written,
encoded or detokenised between passes.

    python -m benchmarks.llama.loop GGUF ROWS ROOM
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from ..serving.contender import Contender
from ..serving.processes import LineProcess
from ..serving.request import ContenderFailed, Flight, Request
from .library import UBATCH, Context, open_library

Frame = dict[str, Any]


class LlamaLoop(Contender):
    """Greedy answers to tokens, one thread. What does not fit into ``rows`` waits."""

    name = "llama.cpp in process"

    def __init__(self, gguf: Path, rows: int, room: int) -> None:
        """``room``: tokens of a prompt and its answer."""
        self._arguments = (str(gguf), str(rows), str(room))
        self._flights: dict[int, Flight] = {}
        self._ids = count(1)
        self._process = LineProcess(self._hear, self._fail_all)

    async def open(self) -> None:
        ready = self._flights[0] = Flight(Request([], "", 0))
        await self._process.start(sys.executable, "-m", "benchmarks.llama.loop", *self._arguments)
        await ready.result()

    async def close(self) -> None:
        await self._process.stop()

    def start(self, request: Request) -> Flight:
        if request.chat:
            raise ContenderFailed("it has no templates: give it tokens")
        id_ = next(self._ids)
        flight = self._flights[id_] = Flight(request)
        self._process.send({"id": id_, "tokens": request.tokens, "max": request.max_tokens})
        return flight

    def cancel(self, flight: Flight) -> None:
        raise ContenderFailed("its requests run to their end")

    def _hear(self, frame: Frame, at_s: float) -> None:
        flight = self._flights.pop(frame["id"])
        flight.tokens = frame["tokens"]
        flight.deltas = [(time_s, 1) for time_s in frame["times"]]
        flight.end(max(frame["times"], default=at_s), "length", len(flight.tokens))

    def _fail_all(self, why: str) -> None:
        for flight in self._flights.values():
            flight.fail(why)
        self._flights.clear()


@dataclass
class Running:
    """One request in a row: ``pending`` are the tokens that it has yet to take in."""

    id: int
    pending: list[int]
    most: int
    length: int = 0
    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class Rows(Protocol):
    """The part of a ``Context`` that the loop needs."""

    def put(self, row: int, position: int, tokens: Sequence[int]) -> None: ...

    def run(self) -> list[int]: ...

    def forget(self, row: int) -> None: ...


class Loop:
    """Each pass has the newest token of every row that decodes, and fills up with prompts to UBATCH tokens."""

    def __init__(self, context: Rows, rows: int) -> None:
        self._context = context
        self._free = list(range(rows))
        self._running: dict[int, Running] = {}
        self._waiting: deque[Running] = deque()

    def add(self, running: Running) -> None:
        self._waiting.append(running)

    def step(self) -> bool:
        """Make a pass; return whether there is more to do."""
        while self._free and self._waiting:
            self._running[self._free.pop(0)] = self._waiting.popleft()
        room = UBATCH
        parts: list[tuple[int, int]] = []
        for row, running in sorted(self._running.items(), key=lambda each: len(each[1].pending)):
            if taken := min(room, len(running.pending)):
                self._context.put(row, running.length, running.pending[:taken])
                parts.append((row, taken))
                room -= taken
        sampled = self._context.run()
        now = time.monotonic()
        for (row, taken), token in zip(parts, sampled, strict=True):
            running = self._running[row]
            running.length += taken
            del running.pending[:taken]
            if not running.pending:
                self._follow(row, running, token, now)
        return bool(self._running or self._waiting)

    def _follow(self, row: int, running: Running, token: int, now: float) -> None:
        running.tokens.append(token)
        running.times.append(now)
        running.pending.append(token)
        if len(running.tokens) == running.most:
            del self._running[row]
            self._context.forget(row)
            self._free.append(row)
            _tell(running)


def serve(loop: Loop) -> None:
    """Answer requests until stdin ends."""
    commands: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            commands.put(json.loads(line))
        commands.put(None)

    threading.Thread(target=read, daemon=True).start()
    _tell(Running(0, [], 0))  # ready
    busy = False
    while True:
        while not busy or not commands.empty():
            command = commands.get()
            if command is None:
                return
            loop.add(Running(command["id"], command["tokens"], command["max"]))
            busy = True
        busy = loop.step()


def _tell(running: Running) -> None:
    print(json.dumps({"id": running.id, "tokens": running.tokens, "times": running.times}), flush=True)


def main(gguf: str, rows: int, room: int) -> None:
    library = open_library()
    context = Context(library, library.load(Path(gguf)), rows, room, threads=1, flash=True)
    serve(Loop(context, rows))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

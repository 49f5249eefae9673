"""A server in a process of its own, which tells what it has used so far.

python -m benchmarks.gateway.watched [--counter LIBRARY] gateway OPTION…    mlx-sidecar gateway
python -m benchmarks.gateway.watched [--counter LIBRARY] bare PORT          benchmarks.gateway.bare

The process answers each line on stdin by a line of JSON on stdout, and ends when stdin does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from ..serving.processes import HttpProcess
from .allocations import Allocations, Counter


class Used(NamedTuple):
    """Processor time of all threads, in seconds, and what was allocated if it was counted."""

    cpu_s: float
    allocations: Allocations


class Watched(HttpProcess):
    """A server under watch. Entering the block starts it; leaving it ends it."""

    def __init__(self, *words: str, counter: Path | None = None) -> None:
        """``words``: those behind the module's name; ``PORT`` in one of them becomes the port."""
        super().__init__()
        before = [] if counter is None else ["--counter", str(counter)]
        self._words = [*before, *(word.replace("PORT", str(self.port)) for word in words)]

    async def used(self) -> Used:
        """The processor time and memory that the process has used until now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        cpu_s, calls, bytes_ = json.loads(await self._process.stdout.readline())
        return Used(cpu_s, Allocations(calls, bytes_))

    async def _spawn(self, command: tuple[str, ...], log: IO[bytes]) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=log)

    async def __aenter__(self) -> Self:
        await self.start(sys.executable, "-m", "benchmarks.gateway.watched", *self._words)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()


def _answer(counter: Counter | None) -> None:
    for _ in sys.stdin:
        allocations = Allocations(0, 0) if counter is None else counter.read()
        sys.stdout.write(json.dumps([time.process_time(), *allocations]) + "\n")
        sys.stdout.flush()
    os._exit(0)


def main(words: list[str]) -> None:
    counter = None
    if words[0] == "--counter":
        counter, words = Counter(words[1]), words[2:]
    threading.Thread(target=_answer, args=[counter], daemon=True).start()
    if words[0] == "bare":
        from .bare import serve

        serve(words[1])
    else:
        from mlx_sidecar.cli import main as mlx_sidecar

        mlx_sidecar(words)


if __name__ == "__main__":
    main(sys.argv[1:])

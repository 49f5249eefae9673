"""A gateway in a process of its own, which also tells of its sidecar; the rest of this module is that process.

``python -m benchmarks.gateway.fault_host OPTION…`` has options of ``serve``. It answers each line of its input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import psutil

from mlx_sidecar_client.protocol.stats import Histogram

ROOT = Path(__file__).parents[2]
_COUNTERS = ("cached_tokens", "completion_tokens", "prefill_tokens")


@dataclass(frozen=True)
class Host:
    """A running gateway, its sidecar and its engine."""

    process: Popen[str]
    port: int
    gateway: psutil.Process
    sidecar: psutil.Process

    def ask(self, question: str = "") -> dict[str, Any]:
        """The answers that are on their way, and the sidecar's queue, counters and longest step of a prefill."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def counters(self) -> dict[str, int]:
        """The engine's counters, once it is not too busy to tell them."""
        while not (counters := self.ask()["counters"]):
            pass
        return dict(counters)

    def until_idle(self) -> None:
        """Return when neither the gateway nor its sidecar works on anything."""
        while any(self.ask()[name] for name in ("answers", "running", "waiting")):
            pass

    def engine(self) -> psutil.Process:
        """The engine that runs now."""
        while True:
            for process in self.sidecar.children():
                if "mlx_sidecar.engine" in process.cmdline():
                    return process

    def resident_bytes(self) -> dict[str, int]:
        """The resident size of each of the three processes."""
        processes = {"gateway": self.gateway, "front": self.sidecar, "engine": self.engine()}
        return {name: process.memory_info().rss for name, process in processes.items()}


@contextmanager
def host(*options: str) -> Iterator[Host]:
    """A gateway whose sidecar has these options, by default with the fake engine."""
    command = [sys.executable, "-m", "benchmarks.gateway.fault_host", *(options or ("--engine", "fake"))]
    with Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout
        try:
            told = json.loads(process.stdout.readline())
            yield Host(process, told["port"], psutil.Process(process.pid), psutil.Process(told["sidecar"]))
        finally:
            process.kill()
            process.communicate()


# From here on: the process.


async def _serve(options: Sequence[str]) -> None:
    from tests.gateway.support import FAKE, running

    async with running(FAKE, options=tuple(options), ping_s=1.0) as gateway:
        _tell({"port": gateway.port, "sidecar": await gateway.sidecar.process_id()})
        while await asyncio.to_thread(sys.stdin.readline):
            stats = await gateway.sidecar.stats()
            _tell(
                {
                    "answers": len(gateway.gateway.answers),
                    "running": stats.queue.running,
                    "waiting": stats.queue.waiting,
                    "counters": {name: stats.counters[name] for name in _COUNTERS if name in stats.counters},
                    "longest_prefill_step_s": _most_s(stats.histograms.get("prefill_step_s")),
                }
            )


def _most_s(times: Histogram | None) -> float:
    """The bound of the longest time; 0 before the first."""
    if times is None:
        return 0.0
    return max((bound for bound, count in zip(times.bounds, times.counts, strict=False) if count), default=0.0)


def _tell(value: Any) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(sys.argv[1:]))

"""From spawning the process to its first answer, to an engine that takes work, and to the first token of pocket."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil

from .measure import Row, seconds, table
from .wire import process, sidecar

ROUNDS = 7
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocol_version": 1, "client": {"name": "benchmark"}},
}
# Asked of the engine, so it waits until there is one.
MODELS = {"jsonrpc": "2.0", "id": 2, "method": "models"}
GENERATE = {
    "jsonrpc": "2.0",
    "id": 3,
    "method": "generate",
    "params": {"model": "pocket", "prompt": "Hello", "stream": "s", "max_tokens": 8},
}


class Started(NamedTuple):
    """Seconds from the spawn of a process; ``processor_s`` is the front's processor time until ``initialize_s``."""

    initialize_s: float
    processor_s: float
    engine_s: float
    first_token_s: float


def start(command: Sequence[str], **environment: str) -> Started:
    """One start of the sidecar that ``command`` serves with, one JSON text to a line."""
    began = time.perf_counter()
    with process(*command, **environment) as child:
        _write(child, INITIALIZE)
        initialized = _read_until(child, b'"id":1')
        times = psutil.Process(child.pid).cpu_times()
        _write(child, MODELS, GENERATE)
        engine = _read_until(child, b'"id":2')
        token = _read_until(child, b'"stream/delta"')
        return Started(initialized - began, times.user + times.system, engine - began, token - began)


def _write(child: subprocess.Popen[bytes], *requests: dict[str, object]) -> None:
    assert child.stdin
    child.stdin.write(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
    child.stdin.flush()


def _read_until(child: subprocess.Popen[bytes], sign: bytes) -> float:
    """When a line with ``sign`` in it was read."""
    assert child.stdout
    while sign not in child.stdout.readline():
        pass
    return time.perf_counter()


def _round() -> tuple[float, float, float, float]:
    python_s = seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    started = start(sidecar())
    return started.initialize_s, started.engine_s, started.first_token_s, python_s


def run() -> list[Row]:
    _round()  # fills the page cache and compiles bytecode
    initialize, engine, token, python = (
        statistics.median(column) for column in zip(*(_round() for _ in range(ROUNDS)), strict=True)
    )
    return [
        Row(
            "spawn to `initialize` answered",
            f"{initialize:.2f} s ({initialize / python:.1f}× an empty Python)",
            "≤ 0.25 s",
        ),
        Row("spawn to an engine that takes work", f"{engine:.2f} s ({engine / python:.1f}× an empty Python)"),
        Row(
            "spawn to the first token of pocket",
            f"{token:.2f} s ({token / python:.1f}× an empty Python)",
            "≤ 0.5 s",
        ),
    ]


if __name__ == "__main__":
    print(table(run()))

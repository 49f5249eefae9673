"""Time from spawning the process to its first answer, and to the first token of the pocket model."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from .measure import Row, table
from .wire import process, sidecar

ROUNDS = 7
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocol_version": 1, "client": {"name": "benchmark"}},
}
GENERATE = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "generate",
    "params": {"model": "pocket", "prompt": "Hello", "stream": "s", "max_tokens": 8},
}


def _until(child: subprocess.Popen[bytes], request: dict[str, object], sign: bytes) -> float:
    assert child.stdin
    assert child.stdout
    child.stdin.write(json.dumps(request).encode() + b"\n")
    child.stdin.flush()
    while sign not in child.stdout.readline():
        pass
    return time.perf_counter()


def _start() -> tuple[float, float, float]:
    began = time.perf_counter()
    with process(*sidecar()) as child:
        answered = _until(child, INITIALIZE, b'"id":1')
        first_token = _until(child, GENERATE, b'"stream/delta"')
    began_python = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return answered - began, first_token - began, time.perf_counter() - began_python


def run() -> list[Row]:
    _start()  # fills the page cache and compiles bytecode
    initialize, token, python = (
        statistics.median(column) for column in zip(*(_start() for _ in range(ROUNDS)), strict=True)
    )
    return [
        Row(
            "spawn to `initialize` answered",
            f"{initialize:.2f} s ({initialize / python:.1f}× an empty Python)",
            "≤ 0.3 s",
        ),
        Row(
            "spawn to the first token of pocket",
            f"{token:.2f} s ({token / python:.1f}× an empty Python)",
            "≤ 1.5 s, aim 0.8 s",
        ),
    ]


if __name__ == "__main__":
    print(table(run()))

"""How long a ping waits while the front works on a megabyte: tokenising, templates, detokenising, large frames.

A ping is written every few milliseconds until the answer to the large request has come, each with a clock of its own.
The delay of one is from its write to the arrival of its answer; the answer of a megabyte that may stand before it in
the pipe is read in this process, and counts as well.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .measure import Row, table
from .wire import PING, process, sidecar

MEGABYTE = 1_000_000
EVERY_S = 0.003
IDLE_PINGS = 300
ROUNDS = 5
ASKED = "worst ≤ 50 ms"
LARGE = b'{"jsonrpc":"2.0","id":"large"'


def _text() -> str:
    page = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")
    return (page * (MEGABYTE // len(page) + 1))[:MEGABYTE]


def _cases() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Return for each case its title, the engine, the method and its parameters."""
    text = _text()
    chat = [{"role": "user", "content": text}]
    ids = [5 + n % 2000 for n in range(MEGABYTE // 5)]  # a megabyte as JSON
    million = "fake?context=2000000&tokens=1"
    yield "`tokenize`", "mlx", "tokenize", {"model": "pocket", "text": text}
    yield "`detokenize` of 200,000 tokens", "mlx", "detokenize", {"model": "pocket", "tokens": ids}
    yield "`render` of one message", "mlx", "render", {"model": "pocket", "messages": chat}
    yield "`generate` with a prompt that proves too long", "mlx", "generate", {"model": "pocket", "prompt": text}
    yield "`generate` with a message that proves too long", "mlx", "generate", {"model": "pocket", "messages": chat}
    yield "`generate` from 200,000 tokens", "fake", "generate", {"model": million, "tokens": [n % 256 for n in ids]}
    yield "`generate` from a prompt of a million tokens", "fake", "generate", {"model": million, "prompt": text}


class _Pings:
    """Writes pings and reads everything; ``delays_s`` has the delays of answered pings."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin
        assert child.stdout
        self._stdin, self._out = child.stdin, child.stdout.fileno()
        self._written: dict[bytes, float] = {}
        self._parts: list[bytes] = []  # of a line that has no end yet
        self.delays_s: list[float] = []
        self.large = False  # its answer has come

    def write(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def ping(self, number: int) -> None:
        self._written[b'{"jsonrpc":"2.0","id":%d,' % number] = time.perf_counter()
        self.write(PING % number)

    def read_for(self, wait_s: float) -> None:
        until = time.perf_counter() + wait_s
        while (left := until - time.perf_counter()) > 0 and select.select([self._out], [], [], left)[0]:
            self._read()

    def read_all(self) -> None:
        while self._written:
            self._read()

    def _read(self) -> None:
        self._parts.append(os.read(self._out, 1 << 20))
        now = time.perf_counter()
        if b"\n" not in self._parts[-1]:
            return
        *lines, rest = b"".join(self._parts).split(b"\n")
        self._parts = [rest]
        for line in lines:
            self.large |= line.startswith(LARGE)
            written = self._written.pop(line[: line.find(b",", 20) + 1], None)
            if written is not None:
                self.delays_s.append(now - written)


def _delays_s(child: subprocess.Popen[bytes], request: bytes | None) -> list[float]:
    """Return the delays of pings from the writing of ``request`` to its answer, or of some on an idle front."""
    pings, number = _Pings(child), 0
    if request is not None:
        pings.write(request)
    while not pings.large and (request is not None or number < IDLE_PINGS):
        pings.ping(number)
        number += 1
        pings.read_for(EVERY_S)
    pings.read_all()
    return pings.delays_s


def _figure(rounds: list[list[float]]) -> str:
    worst = statistics.median(max(delays) for delays in rounds)
    together = sorted(delay for delays in rounds for delay in delays)
    p99 = together[int(0.99 * (len(together) - 1))]
    return f"worst {worst * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms ({len(together) // len(rounds)} pings)"


def _warm(child: subprocess.Popen[bytes], engine: str) -> None:
    """Load the model, and make every kind of request once."""
    pings = _Pings(child)
    for name, its_engine, method, params in _cases():
        if its_engine == engine:
            short = {key: value[:100] if key != "model" else value for key, value in params.items()}
            if "messages" in short:
                short["messages"] = [{"role": "user", "content": name}]
            pings.write(_request(method, short))
            pings.large = False
            while not pings.large:
                pings.read_for(1.0)


def _request(method: str, params: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": "large", "method": method, "params": params}).encode() + b"\n"


def run() -> list[Row]:
    rows = []
    for engine in ("mlx", "fake"):
        with process(*sidecar("--engine", engine)) as child:
            _warm(child, engine)
            idle = [_delays_s(child, None) for _ in range(ROUNDS)]
            rows.append(Row(f"ping on an idle front ({engine} engine)", _figure(idle)))
            for name, its_engine, method, params in _cases():
                if its_engine == engine:
                    request = _request(method, params)
                    rounds = [_delays_s(child, request) for _ in range(ROUNDS)]
                    rows.append(Row(f"ping during {name}, 1 MB", _figure(rounds), ASKED))
    return rows


if __name__ == "__main__":
    print(table(run()))

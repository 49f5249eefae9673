"""The wire: quick requests a second, and the round trip against a bare Python echo over the same kind of pipes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .measure import Row, interleaved, table

PING = b'{"jsonrpc":"2.0","id":%d,"method":"ping"}\n'
ECHO = "import sys\nfor line in sys.stdin.buffer:\n    sys.stdout.buffer.write(line)\n    sys.stdout.buffer.flush()\n"
PIPELINED = 100_000
TRIPS = 2_000
ROUNDS = 5


@contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, **environment}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as child:
        try:
            yield child
        finally:
            child.kill()


def sidecar(*options: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "mlx_sidecar", "serve", "--framing", "lines", *options)


def pings_per_second(child: subprocess.Popen[bytes]) -> float:
    """Return pings a second, written without waiting for answers; the clock stops at the last answer."""
    assert child.stdin
    assert child.stdout
    stdin = child.stdin
    requests = b"".join(PING % number for number in range(PIPELINED))

    def write() -> None:
        stdin.write(requests)
        stdin.flush()

    began = time.perf_counter()
    writer = threading.Thread(target=write)
    writer.start()
    answers = 0
    while answers < PIPELINED:
        answers += os.read(child.stdout.fileno(), 1 << 20).count(b"\n")
    took = time.perf_counter() - began
    writer.join()
    return PIPELINED / took


def round_trip_p50_s(child: subprocess.Popen[bytes]) -> float:
    """Return the median seconds from writing one request to reading its answer; other frames are passed over."""
    assert child.stdin
    assert child.stdout
    trips = []
    for number in range(TRIPS):
        request = PING % number
        began = time.perf_counter()
        child.stdin.write(request)
        child.stdin.flush()
        while b'"stream/delta"' in child.stdout.readline():
            pass
        trips.append(time.perf_counter() - began)
    return statistics.median(trips)


def _start_generating(child: subprocess.Popen[bytes]) -> None:
    """Stream from pocket, longer than the measurement lasts, and return when it has begun."""
    assert child.stdin
    assert child.stdout
    params = {"model": "pocket", "prompt": "Once", "stream": "busy", "ignore_eos": True}
    child.stdin.write(
        json.dumps({"jsonrpc": "2.0", "id": "busy", "method": "generate", "params": params}).encode() + b"\n"
    )
    child.stdin.flush()
    while b'"stream/delta"' not in child.stdout.readline():
        pass


@contextmanager
def one_core() -> Iterator[None]:
    """Share one core with all processes started inside, so that no wake-up crosses cores. Linux only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _idle() -> tuple[float, float, float]:
    with process(*sidecar("--engine", "fake")) as ours, process(sys.executable, "-c", ECHO) as echo:
        round_trip_p50_s(ours)  # warms both up
        round_trip_p50_s(echo)
        return interleaved(lambda: round_trip_p50_s(ours), lambda: round_trip_p50_s(echo), ROUNDS)


def run() -> list[Row]:
    with process(*sidecar("--engine", "fake")) as ours:
        round_trip_p50_s(ours)
        rates = [pings_per_second(ours) for _ in range(ROUNDS)]
    trips = {"idle": _idle()}
    if sys.platform == "linux":
        with one_core():
            trips["idle, all on one core"] = _idle()
    with process(*sidecar()) as ours, process(sys.executable, "-c", ECHO) as echo:
        _start_generating(ours)
        trips["while generating"] = interleaved(lambda: round_trip_p50_s(ours), lambda: round_trip_p50_s(echo), 3)
    rows = [Row("quick requests per second, pipelined", f"{statistics.median(rates):,.0f}", "≥ 50,000, aim 80,000")]
    for name, (mine, peer, ratio) in trips.items():
        figure = f"{ratio:.2f}× ({mine * 1e6:.0f} µs against {peer * 1e6:.0f} µs)"
        rows.append(Row(f"round trip p50 against a bare Python echo, {name}", figure, "≤ 2×"))
    return rows


if __name__ == "__main__":
    print(table(run()))

"""The costs and gains of the text process: a sidecar with one beside ``--peer``, an executable that has none.

    python -m benchmarks.texts --peer OLDER_CHECKOUT/.venv/bin/mlx-sidecar [--model DIRECTORY]

Both are measured in turns in one run. Without ``--peer`` only ours is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .measure import machine

ROUNDS = 5
CHATS = 40  # one after the other; the median counts
TOKENIZES = 2_000
MEGABYTE = 1_000_000
PINGS = 400
EVERY_S = 0.005


class Sidecar:
    """A process that gets one request at a time, or many at once."""

    def __init__(self, executable: str) -> None:
        self.began = time.perf_counter()
        self.process = subprocess.Popen([executable, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._ids = 0

    def send(self, method: str, **params: Any) -> int:
        self._ids += 1
        assert self.process.stdin
        frame = {"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params}
        self.process.stdin.write(json.dumps(frame).encode() + b"\n")
        self.process.stdin.flush()
        return self._ids

    def frame(self) -> dict[str, Any]:
        assert self.process.stdout
        read: dict[str, Any] = json.loads(self.process.stdout.readline())
        return read

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        asked = self.send(method, **params)
        while (frame := self.frame()).get("id") != asked:
            pass
        result: dict[str, Any] = frame["result"]
        return result

    def first_delta_s(self, **params: Any) -> float:
        """Seconds until the first delta of a stream."""
        began = time.perf_counter()
        asked = self.send("generate", stream=f"s{self._ids}", **params)
        first: float | None = None
        while (frame := self.frame()).get("id") != asked:
            first = first or (time.perf_counter() - began if frame.get("method") == "stream/delta" else None)
        assert first is not None
        return first

    def resident_mb(self) -> dict[str, float]:
        """Resident memory of the front, and of each of its children by its module."""
        front = psutil.Process(self.process.pid)
        found = {"front": front.memory_info().rss / 1e6}
        for child in front.children():
            module = child.cmdline()[child.cmdline().index("-m") + 1]
            found[module.removeprefix("mlx_sidecar.")] = child.memory_info().rss / 1e6
        return found


@contextmanager
def running(executable: str) -> Iterator[Sidecar]:
    child = Sidecar(executable)
    try:
        yield child
    finally:
        child.process.kill()
        child.process.wait()


def _start_s(executable: str, model: str) -> float:
    """Seconds from the spawn to the first delta."""
    with running(executable) as child:
        child.first_delta_s(model=model, prompt="Hello", max_tokens=1)
        return time.perf_counter() - child.began


def _short_chat_s(child: Sidecar, model: str) -> float:
    def once(number: int) -> float:
        return child.first_delta_s(
            model=model, messages=[{"role": "user", "content": f"What is {number}?"}], max_tokens=1
        )

    return statistics.median(once(number) for number in range(CHATS))


def _long_chat_s(child: Sidecar, model: str) -> float:
    """Seconds to render and tokenise a chat of some 4,000 tokens, without prefill, which would hide them."""
    text = "How do I cancel a stream? Send stream/cancel with its name. " * 260
    times = []
    for _ in range(CHATS // 4):
        began = time.perf_counter()
        child.call("render", model=model, messages=[{"role": "user", "content": text}])
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _per_second(child: Sidecar, model: str) -> float:
    """Short texts tokenised a second, all asked for at once."""
    began = time.perf_counter()

    def write() -> None:
        for number in range(TOKENIZES):
            child.send("tokenize", model=model, text=f"text number {number}")

    writer = threading.Thread(target=write)
    writer.start()
    answers = 0
    while answers < TOKENIZES:
        answers += "id" in child.frame()
    writer.join()
    return TOKENIZES / (time.perf_counter() - began)


def _ping_beside_a_megabyte_ms(child: Sidecar, model: str) -> float:
    """The 99th percentile of pings that are written every few milliseconds while megabytes are tokenised."""
    text = ("All work and no play makes a dull page of text. " * 21_000)[:MEGABYTE]
    written: dict[int, float] = {}
    times: list[float] = []
    large: set[int] = {child.send("tokenize", model=model, text=text)}
    done = threading.Event()

    def read() -> None:
        while len(times) < PINGS:
            frame = child.frame()
            if frame.get("id") in large:
                large.clear()
                large.add(child.send("tokenize", model=model, text=text))
            elif frame.get("id") in written:
                times.append(time.perf_counter() - written[frame["id"]])
        done.set()

    reader = threading.Thread(target=read)
    reader.start()
    while not done.wait(EVERY_S):
        at = time.perf_counter()
        written[child.send("ping")] = at
    reader.join()
    return statistics.quantiles(times, n=100)[98] * 1000


@dataclass(frozen=True)
class Figure:
    what: str
    unit: str
    measure: Callable[[Sidecar, str], float]


FIGURES = [
    Figure("first delta of a short chat, median", "s", _short_chat_s),
    Figure("a chat of 4,000 tokens rendered and tokenised, median", "s", _long_chat_s),
    Figure("`tokenize` of short texts", "a second", _per_second),
    Figure("`ping` beside megabytes, 99th percentile", "ms", _ping_beside_a_megabyte_ms),
]


def compared(executables: list[str], model: str) -> list[str]:
    """Return rows of a table: ours, the peer's, and their ratio, each a median over rounds."""
    rounds: dict[str, list[list[float]]] = {}
    memory: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        starts = [_start_s(executable, model) for executable in executables]
        rounds.setdefault("spawn to the first delta (s)", []).append(starts)
        memory.clear()
        measured: dict[str, list[float]] = {}
        for executable in executables:
            with running(executable) as child:
                child.call("load", model=model)
                child.first_delta_s(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
                for figure in FIGURES:
                    measured.setdefault(f"{figure.what} ({figure.unit})", []).append(figure.measure(child, model))
                memory.append(child.resident_mb())
        for what, values in measured.items():
            rounds.setdefault(what, []).append(values)
    rows = [_row(what, list(zip(*values, strict=True))) for what, values in rounds.items()]
    parts = [
        "; ".join(f"{name} {mb:.0f}" for name, mb in each.items()) + f"; in all {sum(each.values()):.0f}"
        for each in memory
    ]
    return [
        *rows,
        "| resident memory afterwards (MB) | " + " | ".join([*parts, *([""] if len(parts) > 1 else [])]) + " |",
    ]


def _row(what: str, columns: list[tuple[float, ...]]) -> str:
    medians = [statistics.median(column) for column in columns]
    cells = [f"{value:.4g}" for value in medians]
    if len(columns) > 1:
        ratios = [ours / peer for ours, peer in zip(columns[0], columns[1], strict=True)]
        cells.append(f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})")
    return f"| {what} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="an mlx-sidecar without a text process")
    parser.add_argument("--model", default="pocket")
    options = parser.parse_args()
    executables = [str(Path(sys.executable).with_name("mlx-sidecar")), *([options.peer] if options.peer else [])]
    head = [
        "what",
        "with a text process",
        *(["without", "ratio of each round: median (least–most)"] if options.peer else []),
    ]
    print(f"{machine()}; model {options.model}; medians of {ROUNDS} rounds\n")
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    print("\n".join(compared(executables, options.model)))


if __name__ == "__main__":
    main()

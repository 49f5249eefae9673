"""The client libraries against a raw pipe that only parses: deltas a second, and the time until the first delta.

Sixteen streams of 4,000 tokens, a delta for each token. *Live* is the fake engine at its own pace. *Replay* is the same
frames out of ``cat``, so that the client is the limit. A round has each way of reading in turn; medians of rounds.
The TypeScript half is ``clients/typescript/bench/deltas.mjs``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

from mlx_sidecar_client import Sidecar, SyncSidecar

from .measure import Row, interleaved, table

ROOT = Path(__file__).parents[1]
TYPESCRIPT = ROOT / "clients" / "typescript"
STREAMS, TOKENS = 16, 4_000
ROUNDS, LIVE_ROUNDS = 9, 3
FIRSTS = 300
COMMAND = [sys.executable, "-m", "mlx_sidecar"]
OPTIONS = ["--engine", "fake"]
REQUEST: dict[str, Any] = {"model": f"fake?tokens={TOKENS}&delay_ms=1&context=100000", "prompt": "Hello", "seed": 1}
SHORT: dict[str, Any] = {"model": "fake?tokens=1", "prompt": "Hello", "seed": 1}

# In front of `serve`: takes the requests of a run, writes its frames, and reads on without looking until the goodbye.
PLAYER = """\
read -r line; head -n 1 "$0"; for _ in $(seq {requests}); do read -r line; done; tail -n +2 "$0"
while read -r line; do
    case $line in
        *'"shutdown"'*) printf '{{"jsonrpc":"2.0","id":{last},"result":{{}}}}\\n' ;;
        *'"exit"'*) exit ;;
    esac
done
"""


class Pipe:
    """The least that reads the protocol: bytes are cut at line feeds and parsed."""

    def __init__(self, command: list[str]) -> None:
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._rest = b""
        self._last_id = 0
        self.lines: list[bytes] = []
        self.send("initialize", {"protocol_version": 1, "client": {"name": "raw"}})
        self.read(lambda frame: "result" in frame)
        self._write({"jsonrpc": "2.0", "method": "initialized"})

    def send(self, method: str, params: dict[str, Any]) -> None:
        self._last_id += 1
        self._write({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})

    def generate(self, params: dict[str, Any]) -> None:
        self.send("generate", {**params, "stream": f"s{self._last_id + 1}"})

    def read(self, ends: Callable[[dict[str, Any]], bool]) -> int:
        """Read up to the frame that ``ends``, and return how many deltas came."""
        assert self._child.stdout is not None
        deltas = 0
        while True:
            *lines, self._rest = (self._rest + os.read(self._child.stdout.fileno(), 1 << 16)).split(b"\n")
            self.lines += lines
            ended = False
            for line in lines:
                frame = json.loads(line)
                deltas += frame.get("method") == "stream/delta"
                ended |= ends(frame)
            if ended:
                return deltas

    def close(self) -> None:
        self._child.kill()
        self._child.communicate()

    def _write(self, frame: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(frame).encode() + b"\n")
        self._child.stdin.flush()


@contextmanager
def pipe(command: list[str]) -> Iterator[Pipe]:
    opened = Pipe(command)
    try:
        yield opened
    finally:
        opened.close()


def streams_of(raw: Pipe) -> int:
    """Read all streams to their ends, and return how many deltas they had."""
    for _ in range(STREAMS):
        raw.generate(REQUEST)
    left = STREAMS

    def ends(frame: dict[str, Any]) -> bool:
        nonlocal left
        left -= "result" in frame
        return left == 0

    return raw.read(ends)


def raw_rate(words: list[str]) -> float:
    with pipe([*words, "serve", "--framing", "lines", *OPTIONS]) as raw:
        began = time.perf_counter()
        return streams_of(raw) / (time.perf_counter() - began)


def client_rate(words: list[str]) -> float:
    async def rate() -> float:
        counts: list[int] = []

        async def one(sidecar: Sidecar) -> None:
            counts.append(0)
            mine = len(counts) - 1
            async for _ in sidecar.generate(**REQUEST):
                counts[mine] += 1

        async with Sidecar.spawn(command=words, options=OPTIONS) as sidecar:
            began = time.perf_counter()
            async with anyio.create_task_group() as tasks:
                for _ in range(STREAMS):
                    tasks.start_soon(one, sidecar)
            return sum(counts) / (time.perf_counter() - began)

    return anyio.run(rate)


def blocking_rate(words: list[str]) -> float:
    """Deltas a second of the blocking client, with a thread for each stream."""
    with SyncSidecar.spawn(command=words, options=OPTIONS) as sidecar, ThreadPoolExecutor(STREAMS) as threads:
        began = time.perf_counter()
        counts = threads.map(lambda _: sum(1 for _ in sidecar.generate(**REQUEST)), range(STREAMS))
        return sum(counts) / (time.perf_counter() - began)


@contextmanager
def replay() -> Iterator[list[str]]:
    """Yield the words in front of ``serve`` for a program that plays a run of the fake engine."""
    with pipe([*COMMAND, "serve", "--framing", "lines", *OPTIONS]) as raw, tempfile.TemporaryDirectory() as folder:
        streams_of(raw)
        frames = Path(folder) / "frames"
        frames.write_bytes(b"".join(line + b"\n" for line in raw.lines if b'"engine/state"' not in line))
        script = PLAYER.format(requests=STREAMS + 1, last=STREAMS + 2)
        yield ["/bin/sh", "-c", script, str(frames)]


def first_deltas() -> tuple[float, float]:
    """Median seconds from a request to its first delta, of the client and of the raw pipe, in turns."""

    async def both() -> tuple[float, float]:
        ours, theirs = [], []
        with pipe([*COMMAND, "serve", "--framing", "lines", *OPTIONS]) as raw:
            async with Sidecar.spawn(command=COMMAND, options=OPTIONS) as sidecar:
                for _ in range(FIRSTS):
                    began = time.perf_counter()
                    stream = sidecar.generate(**SHORT)
                    await anext(stream)
                    ours.append(time.perf_counter() - began)
                    await stream
                    began = time.perf_counter()
                    raw.generate(SHORT)
                    raw.read(lambda frame: "method" in frame)
                    theirs.append(time.perf_counter() - began)
        return statistics.median(ours), statistics.median(theirs)

    return anyio.run(both)


def python_rows() -> Iterator[Row]:
    ours, _, ratio = interleaved(lambda: client_rate(COMMAND), lambda: raw_rate(COMMAND), LIVE_ROUNDS)
    yield Row("Python, live: deltas/s", f"{ours:,.0f}, {ratio:.2f}× of the raw pipe")
    with replay() as player:
        ours, _, ratio = interleaved(lambda: client_rate(player), lambda: raw_rate(player), ROUNDS)
        yield Row("Python, replay: deltas/s", f"{ours:,.0f}, {ratio:.2f}× of the raw pipe", "≥ 20,000")
        ours, _, ratio = interleaved(lambda: blocking_rate(player), lambda: raw_rate(player), ROUNDS)
        yield Row("Python without an event loop, replay: deltas/s", f"{ours:,.0f}, {ratio:.2f}× of the raw pipe")
    mine, raw = first_deltas()
    yield first_row("Python", mine * 1e3, raw * 1e3)


def first_row(client: str, ours_ms: float, raw_ms: float) -> Row:
    said = f"{ours_ms:.2f} ms, {ours_ms - raw_ms:+.2f} ms against the raw pipe"
    return Row(f"{client}: first delta", said, "within 2 ms of the raw pipe")


def typescript_rows() -> Iterator[Row]:
    subprocess.run(["npm", "--prefix", TYPESCRIPT, "run", "--silent", "build"], check=True)
    environment = {**os.environ, "MLX_SIDECAR_TEST_COMMAND": json.dumps(COMMAND)}
    done = subprocess.run(
        ["node", TYPESCRIPT / "bench" / "deltas.mjs"], stdout=subprocess.PIPE, env=environment, check=True
    )
    seen = json.loads(done.stdout)
    for way, asked in (("live", ""), ("replay", "≥ 50,000")):
        ours, raw = (seen[way][name]["deltas_per_s"] for name in ("client", "raw_pipe"))
        yield Row(f"TypeScript, {way}: deltas/s", f"{ours:,.0f}, {ours / raw:.2f}× of the raw pipe", asked)
    peer = seen["replay"]["vscode_jsonrpc"]["deltas_per_s"]
    yield Row("vscode-jsonrpc, replay, headers: deltas/s", f"{peer:,.0f}, {peer / raw:.2f}× of the raw pipe")
    yield first_row("TypeScript", seen["first"]["client_ms"], seen["first"]["raw_ms"])


def run() -> list[Row]:
    return [*python_rows(), *typescript_rows()]


if __name__ == "__main__":
    print(table(run()))

"""Tokens a second of 32 streams with all observability, over those without any.

    python -m benchmarks.gateway.observability [--rounds N] [--requests N] [--model MODEL]

With: metrics, which are scraped every second, spans to a collector, and the options of this gateway that write files,
such as --request-log. Without: the same gateway, whose records nobody hears. Without --model the engine is the fake one
at full speed, so that the gateway is what limits; a real model's tokens cost the gateway the same and come more slowly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..measure import Row, machine, table
from ..serving.figures import ratio
from ..serving.processes import HttpProcess

STREAMS = 32
SCRAPE_S = 1.0
ASKED = "≥ 0.97"
_PATH = "/v1/chat/completions"
_CHAT = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
# Options that write to a file, where this gateway has them.
_FILE_OPTIONS = ("--request-log",)


class Asked(NamedTuple):
    """A request, the tokens of its answer, how that ends, and the gateway's options for its model."""

    body: Mapping[str, Any]
    tokens: int
    outcome: str
    options: tuple[str, ...]


def asked_of(model: str | None) -> Asked:
    """Answers of 64 tokens of ``model``, or of 500 of the fake engine's."""
    if model is None:
        return Asked({**_CHAT, "model": "fake?tokens=500"}, 500, "stop", ("--engine", "fake"))
    more = {"model": "real", "max_tokens": 64, "ignore_eos": True, "temperature": 0}
    return Asked({**_CHAT, **more}, 64, "length", ("--model", f"real={model}"))


class _Process(HttpProcess):
    """A process with more in its environment."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._environment = {**os.environ, **(environment or {})}

    async def _spawn(self, command: tuple[str, ...], log: IO[bytes]) -> asyncio.subprocess.Process:
        # The log is in a file, not in a pipe that nobody reads.
        return await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=self._environment)


async def measure(asked: Asked, rounds: int, requests: int) -> list[Row]:
    """Both in turn, each first in every second round; ``requests`` of each stream make a round's time."""
    on: list[float] = []
    off: list[float] = []
    async with _with_all(asked) as (observed, told), _without(asked) as plain:
        await asyncio.gather(_per_s(observed.port, asked, 2), _per_s(plain.port, asked, 2))
        for number in range(rounds):
            sides = [(observed, on), (plain, off)]
            for server, figures in sides if number % 2 else reversed(sides):
                figures.append(await _per_s(server.port, asked, requests))
        metrics = await asyncio.to_thread(_metrics, observed.port)
    _check(metrics, asked.outcome, rounds * requests)
    return [
        Row(f"with {told}", f"{max(on):,.0f} tokens/s at most"),
        Row("without", f"{max(off):,.0f} tokens/s at most"),
        Row(f"{STREAMS} streams, with over without", str(ratio(on, off)), ASKED),
    ]


@asynccontextmanager
async def _with_all(asked: Asked) -> AsyncIterator[tuple[HttpProcess, str]]:
    collector = _Process()
    await collector.start(sys.executable, "-m", "benchmarks.gateway.collector", str(collector.port))
    server = _Process({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"})
    with tempfile.TemporaryDirectory() as folder:
        files = [[name, str(Path(folder) / name.strip("-"))] for name in _file_options()]
        options = [word for words in files for word in words]
        await server.start(sys.executable, "-m", "mlx_sidecar", *_options(server.port, asked), "--otel", *options)
        scraping = asyncio.create_task(_scrape(server.port))
        try:
            yield server, ", ".join(["/metrics", "--otel", *(name for name, _ in files)])
        finally:
            scraping.cancel()
            await server.stop()
            await collector.stop()


@asynccontextmanager
async def _without(asked: Asked) -> AsyncIterator[HttpProcess]:
    server = _Process()
    await server.start(
        sys.executable, "-m", "benchmarks.gateway.observability", "--plain", *_options(server.port, asked)
    )
    try:
        yield server
    finally:
        await server.stop()


def _options(port: int, asked: Asked) -> list[str]:
    return ["gateway", "--listen", f"127.0.0.1:{port}", *asked.options]


def _file_options() -> Iterator[str]:
    """The options that this gateway has of those that write to a file."""
    command = [sys.executable, "-m", "mlx_sidecar", "gateway", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return (name for name in _FILE_OPTIONS if name in text)


async def _per_s(port: int, asked: Asked, requests: int) -> float:
    """Tokens a second of all streams, each of which asks so often, anew when it has ended."""
    began_s = time.monotonic()
    await asyncio.gather(*(_stream(port, asked, requests) for _ in range(STREAMS)))
    return STREAMS * requests * asked.tokens / (time.monotonic() - began_s)


async def _stream(port: int, asked: Asked, requests: int) -> None:
    data = json.dumps(asked.body).encode()
    head = f"POST {_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    for _ in range(requests):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + data)
        answer = await reader.read()
        writer.close()
        if b"data: [DONE]" not in answer[-40:]:
            raise RuntimeError(f"a stream did not end well: …{answer[-200:]!r}")


async def _scrape(port: int) -> None:
    while True:
        await asyncio.to_thread(_metrics, port)
        await asyncio.sleep(SCRAPE_S)


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        text: str = response.read().decode()
    return text


def _check(metrics: str, outcome: str, requests: int) -> None:
    """Raise ``RuntimeError`` unless all was counted and no span was lost: then less was done than is told."""
    counts = {name: float(value) for name, _, value in (line.rpartition(" ") for line in metrics.splitlines())
              if name.startswith("mlx_sidecar_")}  # fmt: skip
    asked = f'mlx_sidecar_requests_total{{key="",operation="chat",outcome="{outcome}",surface="openai"}}'
    if counts[asked] < requests * STREAMS:
        raise RuntimeError(f"not all requests were counted: {counts[asked]:g}")
    for loss in ("failed", "dropped"):
        if lost := counts[f'mlx_sidecar_spans_total{{outcome="{loss}"}}']:
            raise RuntimeError(f"{lost:g} spans were {loss}")


@contextmanager
def _unheard() -> Iterator[None]:
    """No record is told to anybody in this block."""
    from mlx_sidecar_gateway.core.records import Record, Records

    def end(self: Records, record: Record) -> None:
        del self.running[record.id]

    kept, Records.end = Records.end, end  # type: ignore[method-assign]
    try:
        yield
    finally:
        Records.end = kept  # type: ignore[method-assign]


def _serve_plainly(words: list[str]) -> None:
    from mlx_sidecar.cli import main as mlx_sidecar

    with _unheard():
        mlx_sidecar(words)


def main() -> None:
    if sys.argv[1:2] == ["--plain"]:
        _serve_plainly(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway.observability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=10, help="of each stream, in a round")
    parser.add_argument("--model", help="a real one, in the place of the fake engine")
    args = parser.parse_args()
    print(machine())
    print(table(asyncio.run(measure(asked_of(args.model), args.rounds, args.requests))))


if __name__ == "__main__":
    main()

"""The live page: its first paint, its long tasks under 100 requests a second, and its growth. Also takes its pictures.

    python -m benchmarks.gateway.page [--seconds N] [--rounds N] [--pictures]

Needs Chromium and the packages of tests/node, which ``make setup-clients`` installs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from ..measure import Row, machine, table

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
_FAKE = ("--engine", "fake", "--model", "busy=fake?tokens=60&delay_ms=5")
_BUSY = 100.0  # requests a second, each of 0.3 s
_CALM = 3.0  # for the pictures, on the embedded model
_QUESTIONS = ("What is mlx-sidecar?", "Hello", "What is a prefix cache, and why would I want one?", "Who are you?")
_CLIENTS = ("OpenAI/Python 3.57", "Anthropic/JS 1.14", "ollama-python/0.6", "curl/8.5")


def page(seconds: float, rounds: int) -> list[Row]:
    """The page in headless Chromium on this machine, over the fake engine."""
    with _gateway(*_FAKE) as url:
        paints, hour = (asyncio.run(_told(url, *what)) for what in (("paints", str(rounds)), ("hour",)))
        load = asyncio.run(_beside_load(url, "busy", _BUSY, "load", str(seconds)))
    return [*_paint_rows(paints), *_load_rows(load, seconds), *_hour_rows(hour)]


def pictures() -> None:
    """Take docs/pictures/page-light.png and page-dark.png, of the embedded model."""
    PICTURES.mkdir(exist_ok=True)
    with _gateway("--model", "pocket") as url:
        asyncio.run(_beside_load(url, "pocket", _CALM, "pictures", str(PICTURES)))


def _paint_rows(times_ms: list[float]) -> list[Row]:
    figure = f"{statistics.median(times_ms):.0f} ms, {max(times_ms):.0f} ms"
    return [Row(f"first paint, median and longest of {len(times_ms)}", figure, "≤ 200 ms")]


def _load_rows(told: dict[str, Any], seconds: float) -> list[Row]:
    tasks, load = told["longTasks"], f"{_BUSY:.0f} requests a second for {seconds:.0f} s"
    longest = f", the longest {max(tasks):.0f} ms" if tasks else ""
    return [
        Row(f"{load}: tasks over 50 ms", f"{len(tasks)}{longest}", "0"),
        Row(f"{load}: growth of the heap and of the document", _growth(told)),
        Row("tasks over 50 ms while the page loads", str(len(told["loading"]))),
    ]


def _hour_rows(told: dict[str, Any]) -> list[Row]:
    return [
        Row("3,600 snapshots, an hour's: growth of the heap and of the document", _growth(told), "< 1 MiB, no nodes"),
        Row("time of a script to draw one of them", f"{told['each_ms']:.2f} ms"),
    ]


def _growth(told: dict[str, Any]) -> str:
    before, after = told["before"], told["after"]
    return f"{(after['bytes'] - before['bytes']) / 1024:+.0f} KiB, {after['nodes'] - before['nodes']:+d} nodes"


@contextmanager
def _gateway(*options: str) -> Iterator[str]:
    """The URL of a gateway with these options."""
    command = [sys.executable, "-m", "mlx_sidecar", "gateway", "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            url = process.stderr.readline().split()[-1]
            assert process.stderr.readline() == "ready\n"
            yield url
        finally:
            process.terminate()


async def _beside_load(url: str, model: str, rate: float, *what: str) -> Any:
    """The JSON that page.mjs prints, while requests come at this rate."""
    load = asyncio.create_task(_load(url, model, rate))
    try:
        return await _told(url, *what)
    finally:
        load.cancel()


async def _told(url: str, *what: str) -> Any:
    """The JSON that page.mjs prints."""
    node, chromium = shutil.which("node"), shutil.which("chromium")
    if node is None or chromium is None:
        raise SystemExit("node and chromium are needed: make setup-clients installs them")
    process = await asyncio.create_subprocess_exec(
        node,
        str(Path(__file__).with_suffix(".mjs")),
        chromium,
        url,
        *what,
        cwd=ROOT / "tests" / "node",
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"page.mjs ended with status {process.returncode}")
    return json.loads(printed)


async def _load(url: str, model: str, rate: float) -> None:
    """Begin requests at this rate until cancelled."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as requests:
        for number in count():
            await asyncio.sleep(began + number / rate - loop.time())
            requests.create_task(_request(url, model, number))


async def _request(url: str, model: str, number: int) -> None:
    """One streamed chat, read to its end."""
    turns = [{"role": "user", "content": _QUESTIONS[(number // each) % len(_QUESTIONS)]} for each in (1, 4)]
    body = {"model": model, "stream": True, "messages": turns[: 1 + number % 2]}
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\nConnection: close\r\n"
        f"User-Agent: {_CLIENTS[number % len(_CLIENTS)]}\r\nX-Mlx-Sidecar-Explain-Cache: 1\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        writer.write(head.encode() + data)
        await reader.read(-1)
    finally:
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.page")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the page is watched (default: 30)")
    parser.add_argument("--rounds", type=int, default=9, help="how many pages are opened for the first paint (9)")
    parser.add_argument("--pictures", action="store_true", help="write docs/pictures and measure nothing")
    args = parser.parse_args()
    if args.pictures:
        pictures()
        return
    print(f"{machine()}\n\n{table(page(args.seconds, args.rounds))}")


if __name__ == "__main__":
    main()

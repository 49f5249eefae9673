"""A host that stops reading while 100,000 tokens are streamed to it: how much the front grows."""

from __future__ import annotations

import json
import subprocess

import psutil

from .measure import Row, table
from .wire import process, sidecar

TOKENS = 100_000


def _frame(id_: int, method: str, params: dict[str, object]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params}).encode() + b"\n"


def _answer(child: subprocess.Popen[bytes], id_: int) -> dict[str, object]:
    assert child.stdout
    for line in child.stdout:
        frame: dict[str, object] = json.loads(line)
        if frame.get("id") == id_:
            return frame
    raise EOFError


def run() -> list[Row]:
    model = f"fake?tokens={TOKENS}&context={2 * TOKENS}"
    with process(*sidecar("--engine", "fake")) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(_frame(1, "generate", {"model": "fake?tokens=1000", "prompt": "warm", "stream": "warm"}))
        child.stdin.flush()
        _answer(child, 1)
        before = psutil.Process(child.pid).memory_info().rss
        child.stdin.write(_frame(2, "generate", {"model": model, "prompt": "go", "stream": "stalled"}))
        child.stdin.flush()
        grown = _settled(child.pid) - before
        text = str(_answer(child, 2)["result"]["text"])  # type: ignore[index]
    size = len(text.encode())
    figure = f"{grown / 1e6:.1f} MB for {size / 1e6:.1f} MB of text and {TOKENS:,} token ids"
    return [Row("front's growth, 100,000 tokens to a reader that stopped", figure, "text only")]


def _settled(pid: int) -> int:
    """Resident bytes once the front and its engine have gone quiet: everything has been generated."""
    front = psutil.Process(pid)
    family = [front, *front.children(recursive=True)]
    quiet = 0
    while quiet < 3:
        quiet = quiet + 1 if sum(member.cpu_percent(interval=0.2) for member in family) < 3 else 0
    return int(front.memory_info().rss)


if __name__ == "__main__":
    print(table(run()))

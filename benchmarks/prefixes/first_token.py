"""Time to the first token over pipes: of a new prompt, of the same from memory, and from disk after a restart.

Beside it: the cost of copying as many bytes, and of reading their files in a new process.

    python -m benchmarks.prefixes first_token
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mlx_sidecar import pocket
from mlx_sidecar.host import Host

from ..measure import Row
from ..serving.models import make
from .figures import Figures
from .plot import draw

_READ = """
import pathlib, sys, time
began = time.perf_counter()
kept = [pathlib.Path(name).read_bytes() for name in sys.argv[1:]]
print(time.perf_counter() - began)
"""

LENGTHS = (1024, 4096, 16384)
WARM_ROUNDS = 7
RESTARTS = 3
DECODED = 4
# Keys and values of a token in float32, and how many tokens a prompt may have.
SIZES = {"pocket": (4 * 2 * 2 * 32 * 4, 8192), "16M": (8 * 2 * 3 * 64 * 4, 32768), "100M": (14 * 2 * 6 * 64 * 4, 32768)}


def run() -> list[Row]:
    """Return the rows, and draw docs/plots/prefixes.png."""
    figures = measured()
    draw(figures)
    return [found.row for found in figures]


def measured(models: tuple[str, ...] = tuple(SIZES), lengths: tuple[int, ...] = LENGTHS) -> list[Figures]:
    """Return the measurements of each model at each length that its context allows."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            token_bytes, context = SIZES[model]
            path = pocket.PATH if model == "pocket" else make(model, Path(folder))
            for length in lengths:
                if length < context:
                    cache = Path(folder, f"cache-{model}-{length}")
                    figures.append(_measured(model, path, length, token_bytes, cache))
    return figures


def _measured(model: str, path: Path, length: int, token_bytes: int, cache: Path) -> Figures:
    draw = random.Random(length)
    tokens = [draw.randrange(2000) for _ in range(length)]
    with _host(path, cache) as host:
        cold, _ = _first_token(host, path, tokens)
        ram = statistics.median(_first_token(host, path, tokens)[0] for _ in range(WARM_ROUNDS))
        step = _step(host, path, tokens)
        _until_written(host)
    found = Figures(model, length, cold, ram, step, _copying(length * token_bytes))
    found.disk, found.read = _restarted(path, cache, tokens, dropped=False)
    found.dropped, found.read_dropped = _restarted(path, cache, tokens, dropped=True)
    return found


def _host(path: Path, cache: Path) -> Any:
    return _Loaded(path, "--cache-dir", str(cache), "--cache-disk-limit-bytes", str(1 << 36))


class _Loaded(Host):
    """A host whose model is loaded and warm."""

    def __init__(self, path: Path, *options: str) -> None:
        super().__init__(*options)
        self._path = path

    def __enter__(self) -> _Loaded:
        super().__enter__()
        self.call("load", {"model": str(self._path)})
        self.call("generate", {"model": str(self._path), "tokens": [1, 2, 3], "max_tokens": 4, "ignore_eos": True})
        return self


def _first_token(host: Host, path: Path, tokens: list[int]) -> tuple[float, dict[str, Any]]:
    params = {"model": str(path), "tokens": tokens, "max_tokens": 1, "ignore_eos": True}
    result = host.call("generate", params)
    return result["timing"]["first_token_s"], result["usage"]


def _step(host: Host, path: Path, tokens: list[int]) -> float:
    """Seconds of a decode step at this depth."""
    params = {"model": str(path), "tokens": tokens, "max_tokens": 1 + DECODED, "ignore_eos": True}
    return float(statistics.median(host.call("generate", params)["timing"]["decode_s"] / DECODED for _ in range(3)))


def _until_written(host: Host) -> None:
    """Wait until the cache, which writes behind, has written everything."""
    while host.call("cache/stats")["disk"]["pending_bytes"]:
        time.sleep(0.1)


def _restarted(path: Path, cache: Path, tokens: list[int], *, dropped: bool) -> tuple[float, float]:
    """Median seconds of a first token after a restart, and of reading the same files into fresh memory."""
    ours, reading = [], []
    files = list(cache.rglob("*.safetensors"))
    for _ in range(RESTARTS):
        if dropped:
            _drop(files)
        reading.append(_reading(files))
        with _host(path, cache) as host:
            if dropped:
                _drop(files)
            seconds, usage = _first_token(host, path, tokens)
            assert usage["cached_by_tier"]["disk"] == len(tokens) - 1, usage
            ours.append(seconds)
    return statistics.median(ours), statistics.median(reading)


def _drop(files: list[Path]) -> None:
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _reading(files: list[Path]) -> float:
    """Seconds to read the files in a new process, because a restarted engine is one."""
    command = [sys.executable, "-c", _READ, *map(str, files)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _copying(nbytes: int) -> float:
    source = np.ones(nbytes, np.uint8)
    return statistics.median(_timed_copies(source))


def _timed_copies(source: np.ndarray[Any, Any]) -> Iterator[float]:
    for _ in range(WARM_ROUNDS):
        began = time.perf_counter()
        source.copy()
        yield time.perf_counter() - began

"""The peers that can be had without an installer of their own: how each is started, and how a machine is told of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from mlx_sidecar import pocket

from . import node_llama_cpp
from .questions import QUESTIONS
from .server import Server, running

Cells = Mapping[str, str]


@dataclass(frozen=True)
class Peer:
    """A column of the table.

    ``ask`` takes the embedded model as a GGUF file, and a function that is told each cell as it comes.
    ``missing`` says what it needs and is not here; None if it can be asked.
    """

    name: Callable[[], str]
    missing: Callable[[], str | None]
    ask: Callable[[Path, Callable[[str, str], None]], Cells]


def _served(start: Callable[[Path], AbstractContextManager[Server]]) -> Callable[..., Cells]:
    """Return how a server is asked all questions."""

    def ask(gguf: Path, told: Callable[[str, str], None]) -> Cells:
        cells = {}
        with start(gguf) as server:
            for title, question in QUESTIONS.items():
                cells[title] = question(server)
                told(title, cells[title])
        return cells

    return ask


@contextmanager
def _sidecar(_: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "mlx_sidecar", "gateway", "--model", "pocket", "--listen", "127.0.0.1:{port}"]
    with running(command) as (process, url):
        yield Server(url, "pocket", process, lambda: _engine_of(process))


def _engine_of(process: int) -> int:
    """Return the process id of the engine below a gateway."""
    below = psutil.Process(process).children(recursive=True)
    return next(child.pid for child in below if "mlx_sidecar.engine" in " ".join(child.cmdline()))


@contextmanager
def _mlx_lm(_: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(pocket.PATH), "--port", "{port}"]
    with running(command) as (process, url):
        yield Server(url, str(pocket.PATH), process, lambda: process)


@contextmanager
def _llama_server(gguf: Path) -> Iterator[Server]:
    command = ["llama-server", "--model", str(gguf), "--port", "{port}", "--threads", "1", "--jinja"]
    with running([*command, "--parallel", "8", "--ctx-size", "32768"]) as (process, url):
        yield Server(url, "pocket", process, lambda: process)


@contextmanager
def _llama_cpp_python(gguf: Path) -> Iterator[Server]:
    python = os.environ["LLAMA_CPP_PYTHON"]
    command = [python, "-m", "llama_cpp.server", "--model", str(gguf), "--port", "{port}"]
    with running([*command, "--n_ctx", "4096", "--n_threads", "1"], "/v1/models") as (process, url):
        yield Server(url, "pocket", process, lambda: process)


def _version_of_llama_server() -> str:
    told = subprocess.run(["llama-server", "--version"], capture_output=True, encoding="utf-8", check=True)
    line = next(line for line in (told.stdout + told.stderr).splitlines() if line.startswith("version"))
    return f"llama-server {line.removeprefix('version:').split('(')[0].strip()}"


def _version_of_llama_cpp_python() -> str:
    code = "import importlib.metadata as m; print(m.version('llama-cpp-python'))"
    told = subprocess.run(
        [os.environ["LLAMA_CPP_PYTHON"], "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    return f"llama-cpp-python {told.stdout.strip()}"


def _unset(variable: str, value: str) -> Callable[[], str | None]:
    return lambda: None if variable in os.environ else f"{variable} names no {value}"


PEERS: dict[str, Peer] = {
    "sidecar": Peer(lambda: f"mlx-sidecar {version('mlx-sidecar')}", lambda: None, _served(_sidecar)),
    "mlx_lm": Peer(lambda: f"mlx_lm.server {version('mlx-lm')}", lambda: None, _served(_mlx_lm)),
    "llama-server": Peer(
        _version_of_llama_server,
        lambda: None if shutil.which("llama-server") else "no llama-server is on the search path",
        _served(_llama_server),
    ),
    "llama-cpp-python": Peer(
        _version_of_llama_cpp_python,
        _unset("LLAMA_CPP_PYTHON", "Python with llama-cpp-python and its server"),
        _served(_llama_cpp_python),
    ),
    "node-llama-cpp": Peer(
        node_llama_cpp.version,
        _unset("NODE_LLAMA_CPP", "folder in which node-llama-cpp is installed"),
        node_llama_cpp.ask,
    ),
}

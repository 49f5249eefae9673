"""How the runtime is built, and how many of its files one decode turn and one ``generate`` go through.

``python -m benchmarks.structure [CHECKOUT …]``: each checkout with its own ``.venv``; without any, this one. A room is
a folder or a file directly in ``runtime/mlx_sidecar``; an arrow is an import from one room to another, wherever it
stands. The files of a turn and of a request are those whose functions were called, by ``sys.setprofile``; a switch
is a call that follows one of a function of another file.
"""

from __future__ import annotations

import ast
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from .measure import Row, table

ROOT = Path(__file__).parents[1]
LONG = 300
_PROFILER = Path(__file__).with_name("structure_profile.py")
_CHAT = {"model": "pocket", "prompt": "What is a stream?", "max_tokens": 40, "ignore_eos": True, "stream": "s"}


class Call(NamedTuple):
    """A function of the runtime was called: when on the monotonic clock, on which thread, in which file, its name."""

    at_s: float
    thread: int
    file: str
    name: str


def imports(source: Path) -> dict[str, set[str]]:
    """By file below ``source``: the files it imports, inside functions too."""
    files = {
        ".".join(("mlx_sidecar", *file.relative_to(source).with_suffix("").parts)): file for file in _files(source)
    }
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        found[name] = {module for module in _imported(name.split(".")[:-1], file) if module in files} - {name}
    return found


def _files(source: Path) -> list[Path]:
    return sorted(file for file in source.rglob("*.py") if file.name != "__init__.py")


def _imported(package: list[str], file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The groups of nodes that reach each other."""
    reach = {node: _reached(graph, node) for node in graph}
    groups = [{other for other in reach[node] if node in reach[other]} for node in graph if node in reach[node]]
    return [group for number, group in enumerate(groups) if group not in groups[:number]]


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    stack = [*graph[start]]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += graph.get(node, ())
    return seen


def floors(graph: dict[str, set[str]]) -> int:
    """Nodes of the longest chain of arrows; a circle counts as one node."""
    tied = {node: frozenset(group) for group in circles(graph) for node in group}
    heights: dict[frozenset[str], int] = {}

    def height(group: frozenset[str]) -> int:
        if group not in heights:
            below = {tied.get(other, frozenset({other})) for node in group for other in graph.get(node, ())} - {group}
            heights[group] = 1 + max(map(height, below), default=0)
        return heights[group]

    return max(height(tied.get(node, frozenset({node}))) for node in graph)


def plan(checkout: Path) -> list[str]:
    """Rooms, floors, arrows, rooms in circles, files in circles, files that are too long."""
    source = checkout / "runtime" / "mlx_sidecar"
    files = imports(source)
    rooms: dict[str, set[str]] = {_room(file): set() for file in files}
    for file, others in files.items():
        rooms[_room(file)] |= {_room(other) for other in others} - {_room(file)}
    long = sum(len(file.read_text().splitlines()) > LONG for file in _files(source))
    arrows = sum(map(len, rooms.values()))
    in_circles = [sum(map(len, circles(graph))) for graph in (rooms, files)]
    return [*map(str, (len(rooms), floors(rooms), arrows, *in_circles, long))]


def _room(file: str) -> str:
    return file.split(".")[1]


def calls(checkout: Path) -> tuple[list[Call], list[Call], tuple[float, float]]:
    """Calls in the front and in the engine during a ``generate``; when it was sent and when its first delta came."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(_PROFILER.read_text())
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHON_CALLS_TO": folder}
        command = [str(checkout / ".venv" / "bin" / "python"), "-m", "mlx_sidecar", "serve"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=checkout)
        with child:
            _ask(child, 1, {**_CHAT, "stream": "first"}, '"id":1')  # the model is loaded, and everything imported
            window = _ask(child, 2, _CHAT, '"id":2')
            assert child.stdin
            child.stdin.close()
        told = {path.stem: path.read_text() for path in Path(folder).glob("*.calls")}
    parsed = {name: [Call(*json.loads(line)) for line in text.splitlines()] for name, text in told.items()}
    return _of(parsed, "front/serve.py", "wire/serve.py"), _of(parsed, "engine/loop.py"), window


def _of(parsed: dict[str, list[Call]], *signs: str) -> list[Call]:
    return next(found for found in parsed.values() if any(call.file in signs for call in found))


def _ask(child: subprocess.Popen[bytes], id_: int, params: dict[str, object], last: str) -> tuple[float, float]:
    """When the request was sent, and when its first delta came."""
    assert child.stdin
    assert child.stdout
    request = {"jsonrpc": "2.0", "id": id_, "method": "generate", "params": params}
    sent_s, first_s = time.monotonic(), 0.0
    child.stdin.write(json.dumps(request).encode() + b"\n")
    child.stdin.flush()
    while last not in (line := child.stdout.readline().decode()):
        if "stream/delta" in line and not first_s:
            first_s = time.monotonic()
    return sent_s, first_s


def crossed(found: list[Call]) -> tuple[int, int]:
    """How many files, and how many switches between them."""
    threads = {call.thread for call in found}
    by_thread = [[call.file for call in found if call.thread == thread] for thread in threads]
    switches = sum(before != after for files in by_thread for before, after in pairwise(files))
    return len({call.file for call in found}), switches


def turns(engine: list[Call], window: tuple[float, float]) -> list[list[Call]]:
    """The turns of the loop that decoded after the first delta of the request."""
    found: list[list[Call]] = []
    for call in engine:
        if call.at_s > window[1]:
            if (call.file, call.name) == ("engine/loop.py", "turn"):
                found.append([])
            if found:
                found[-1].append(call)
    return [turn for turn in found if any(call.name == "step" for call in turn)]


def measured(checkout: Path) -> list[str]:
    front, engine, window = calls(checkout)
    decode = [crossed(turn) for turn in turns(engine, window)]
    between = [call for call in (*front, *engine) if window[0] <= call.at_s <= window[1]]
    files, switches = (int(statistics.median(column)) for column in zip(*decode, strict=True))
    return [f"{files} / {switches}", str(crossed(between)[0]), str(len({(call.file, call.name) for call in between}))]


NAMES = (
    "rooms",
    "floors",
    "arrows between rooms",
    "rooms in circles",
    "files in circles",
    f"files of more than {LONG} lines",
    "files / switches of a decode turn, median",
    "files from stdin to the first delta",
    "functions from stdin to the first delta",
)


def run(*checkouts: Path) -> list[Row]:
    columns = [[*plan(checkout), *measured(checkout)] for checkout in checkouts or [ROOT]]
    return [Row(name, " → ".join(figures)) for name, *figures in zip(NAMES, *columns, strict=True)]


if __name__ == "__main__":
    print(table(run(*(Path(name).resolve() for name in sys.argv[1:]))))

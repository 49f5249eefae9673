"""Runs an adapter on the operations of a case, with a tapped sidecar, and judges the result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checks import Case, Entry, LeftOut, complaints

TAP = Path(__file__).resolve().parents[1] / "tap.py"
AFTERWARDS_S = 10.0  # for processes to end after the adapter; the sidecar promises 1 s


@dataclass(frozen=True)
class Kit:
    """The adapter under test, and the sidecar to test it with."""

    adapter: list[str]
    sidecar: list[str]
    patience_s: float


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case, ``passed``, ``failed`` or ``left out``, with reasons."""

    case: Case
    word: str
    reasons: Sequence[str] = ()


@dataclass
class Played:
    """The answers, transcript and faults of one run of a case."""

    answers: list[Any] = field(default_factory=list)
    transcript: list[Entry] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    stderr: str = ""


def play_and_judge(kit: Kit, case: Case) -> Outcome:
    """Run a case and check its answers and frames."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        played = play(case, kit, Path(folder))
    try:
        reasons = [*complaints(case, played.answers, played.transcript), *played.faults]
    except LeftOut as because:
        return Outcome(case, "left out", [str(because)])
    if reasons and played.stderr:
        reasons.append("standard error:\n" + played.stderr[-3000:])
    return Outcome(case, "failed" if reasons else "passed", reasons)


def play(case: Case, kit: Kit, folder: Path) -> Played:
    """Run the adapter on the operations of a case."""
    transcript, errors, plan = (folder / name for name in ("transcript.jsonl", "stderr", "plan.json"))
    tap = case.get("tap", {})
    options = ["--engine", "fake", *tap.get("options", ())]
    plan.write_text(json.dumps({**tap, "sidecar": kit.sidecar, "options": options, "transcript": str(transcript)}))
    played = Played()
    command = [*kit.adapter, sys.executable, str(TAP), str(plan)]
    with errors.open("wb") as stderr:
        output = run(command, case["operations"], stderr, kit.patience_s, played.faults)
    for line in output.splitlines():
        try:
            played.answers.append(json.loads(line))
        except ValueError as fault:
            played.faults.append(f"no JSON ({fault}): {line[:500].decode(errors='replace')}")
    if transcript.exists():
        played.transcript = [json.loads(line) for line in transcript.read_bytes().splitlines()]
    elif case["operations"]:
        played.faults.append("the sidecar was not started")
    played.faults += left_behind(processes(played.transcript), min(kit.patience_s, AFTERWARDS_S))
    played.stderr = errors.read_text(encoding="utf-8", errors="replace").strip()
    return played


def run(command: list[str], operations: list[Any], stderr: Any, patience_s: float, faults: list[str]) -> bytes:
    """The output of ``command``, which is killed after ``patience_s``."""
    text = "".join(json.dumps(operation, ensure_ascii=False) + "\n" for operation in operations)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, start_new_session=True) as process:
        try:
            output, _ = process.communicate(text.encode(), patience_s)
        except subprocess.TimeoutExpired:
            faults.append(f"a hang: killed after {patience_s:g} s; the operation without an answer is the one")
            os.killpg(process.pid, signal.SIGKILL)
            return process.communicate()[0]
    if process.returncode != 0:
        faults.append(f"the adapter's exit status is {process.returncode}")
    return output


def processes(transcript: list[Entry]) -> dict[int, str]:
    """The names of the sidecar's processes by their ids."""
    found: dict[int, str] = {}
    for entry in transcript:
        found |= dict.fromkeys(entry.get("started", ()), "a process of the sidecar")
        frame = entry.get("frame")
        if isinstance(frame, dict) and frame.get("method") == "engine/state" and frame["params"].get("pid"):
            found[frame["params"]["pid"]] = "an engine process"
    return found


def left_behind(expected_gone: dict[int, str], patience_s: float) -> Iterator[str]:
    """Complaints about processes that have not ended within ``patience_s``, which are then killed."""
    until, pause_s = time.monotonic() + patience_s, 0.02
    while alive := running(expected_gone):
        if time.monotonic() > until:
            break
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.5)  # each look starts a process itself
    for pid in alive:
        yield f"{expected_gone[pid]} ({pid}) is left behind"
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def running(pids: Iterable[int]) -> list[int]:
    """The processes of ``pids`` that run; a zombie does not."""
    if not (listed := ",".join(map(str, pids))):
        return []
    told = subprocess.run(["ps", "-o", "pid=", "-o", "stat=", "-p", listed], capture_output=True, text=True).stdout
    return [int(pid) for pid, state in map(str.split, told.splitlines()) if not state.startswith("Z")]

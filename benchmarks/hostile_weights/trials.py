"""One sidecar, and one mutated directory after the other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

from .mutations import mutate

_PATIENCE_S = 120.0
_PING_EVERY_S = 0.05
_INNOCENT = {"model": "pocket", "prompt": "Hello", "max_tokens": 200, "ignore_eos": True}


class Trials:
    """A context in which a sidecar lives. ``broken`` has broken promises in words.

    ``slow`` has the pings that took longer than 250 ms, for which another process may be to blame.
    """

    def __init__(self, bases: list[Path], root: Path) -> None:
        self._bases = bases
        self._root = root
        self.outcomes: list[str] = []
        self.broken: list[str] = []
        self.slow: list[str] = []
        self.worst_ping_s = 0.0
        self.restarts = 0
        self._answers: dict[int, Any] = {}
        self._came: dict[int, Event] = {}
        self._numbers = count(1)
        self._threads = [Thread(target=run) for run in (self._listen, self._ping, self._stream)]
        self._over = Event()
        self._doing = ""

    def __enter__(self) -> Trials:
        command = [sys.executable, "-m", "mlx_sidecar", "serve"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        listener, *others = self._threads
        listener.start()
        self._alone = self._call("generate", _INNOCENT)["text"]
        for other in others:
            other.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        assert self._process.stdin is not None
        if self._process.poll() is not None:
            self.broken.append(f"the front ended with status {self._process.poll()}")
        _, *others = self._threads
        for other in others:
            other.join(_PATIENCE_S)
        self._process.stdin.close()
        self._process.wait(_PATIENCE_S)
        self._threads[0].join(_PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, seed: int) -> tuple[str, str]:
        """Return the change to a directory, and the kind of outcome of loading and using it."""
        base = self._bases[seed % len(self._bases)]
        directory = self._root / f"t{seed}"
        directory.mkdir()
        for file in base.iterdir():
            (directory / file.name).hardlink_to(file)
        self._doing = done = f"{seed} {base.name}: {mutate(directory, seed)}"
        asked = {"model": str(directory), "tokens": [*range(1, 41)], "max_tokens": 40, "ignore_eos": True}
        answer = self._call("generate", asked, done)
        outcome = "answered" if "text" in answer else str(answer.get("data", {}).get("kind", answer))
        if outcome in ("internal_error", "engine_lost", "engine_stalled", "nothing", "poison_request"):
            self.broken.append(f"{outcome} at {done}")
        self.outcomes.append(outcome)
        self._call("unload", {"model": str(directory)}, done)
        shutil.rmtree(directory)
        return done, f"{outcome}: {answer.get('message', '')[-160:]}"

    def _call(self, method: str, params: dict[str, Any], done: str = "the beginning") -> dict[str, Any]:
        number = next(self._numbers)
        came = self._came[number] = Event()
        frame = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frame + b"\n")
            self._process.stdin.flush()
        except OSError:
            return {"message": "nothing", "data": {"kind": "nothing"}}
        if not came.wait(_PATIENCE_S):
            self.broken.append(f"{method} was not answered at {done}")
            return {"message": "nothing", "data": {"kind": "nothing"}}
        answer: dict[str, Any] = self._answers.pop(number)
        return answer

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            frame = json.loads(line)
            if "id" in frame:
                self._answers[frame["id"]] = frame.get("result", frame.get("error"))
                self._came.pop(frame["id"]).set()
            elif frame.get("method") == "engine/state" and frame["params"]["state"] == "lost":
                self.restarts += 1
                self.broken.append(f"an engine was lost at {self._doing}: {frame['params'].get('because')}")

    def _ping(self) -> None:
        while not self._over.wait(_PING_EVERY_S):
            began = time.monotonic()
            self._call("ping", {})
            took_s = time.monotonic() - began
            if took_s > max(0.25, self.worst_ping_s):
                self.slow.append(f"a ping took {took_s:.3f} s at {self._doing}")
            self.worst_ping_s = max(self.worst_ping_s, took_s)

    def _stream(self) -> None:
        while not self._over.is_set():
            answer = self._call("generate", _INNOCENT)
            if answer.get("text") != self._alone and not self._over.is_set():
                self.broken.append(
                    f"the stream noticed at {self._doing}: {answer.get('message', 'another text')[:200]}"
                )

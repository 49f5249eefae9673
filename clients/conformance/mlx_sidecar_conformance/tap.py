"""Stands between a client and the sidecar, records every frame, and changes frames by a plan.

``tap.py PLAN serve OPTION…`` starts the sidecar that the plan names, with these arguments and the plan's options. The
client takes it for the sidecar: it has the same pipes, and leaves with the sidecar's exit status.

The plan is a JSON object: ``sidecar``, the words of its command; ``transcript``, the file to write to; and, if wanted,

- ``options``: for the sidecar, after those of the client;
- ``split``: the number of bytes to write to the client at a time;
- ``noise``: notifications, one of them before each frame of the sidecar;
- ``extra``: members to add to every result, error and params of the sidecar;
- ``ascii``: write JSON with spaces, and with all characters beyond ASCII escaped;
- ``answers``: a list of {``when``, ``then``}: requests that fit ``when`` are answered with ``then`` here;
- ``dies``: a list of {``from``, ``frame``, ``times``?}. The first process kills itself when ``times`` frames that fit
  the first entry have passed, the second process by the second entry, and so on.

A line of the transcript is ``{"from": "host" | "sidecar" | "tap", "frame": …}`` or ``{"started": [pid, …]}``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from itertools import cycle
from pathlib import Path
from typing import Any

from .frames import encoded, frames, is_cut, wait_until_read, write_all
from .matching import fits

STDIN, STDOUT = 0, 1


class Tap:
    """One process of the sidecar, and the frames from and to it."""

    def __init__(self, plan: dict[str, Any], arguments: list[str]) -> None:
        self._plan = plan
        self._transcript = Transcript(Path(plan["transcript"]))
        deaths = plan.get("dies", [])[self._transcript.processes() :]
        self._death = deaths[0] if deaths else {}
        self._lives = self._death.get("times", 1)
        self._noise = cycle(plan.get("noise", ()))
        self._with_headers = False
        self._writing = threading.Lock()
        command = [*plan["sidecar"], *arguments, *plan.get("options", ())]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._transcript.add({"started": [os.getpid(), self._child.pid]})

    def run(self) -> int:
        """Pass frames on until the sidecar has ended; returns its exit status."""
        threading.Thread(target=self._from_host, daemon=True).start()
        self._from_sidecar()
        status = self._child.wait()
        return status if status >= 0 else 128 - status

    def _from_host(self) -> None:
        pipe = self._child.stdin
        assert pipe is not None
        try:
            for raw, body in frames(STDIN):
                self._with_headers = raw[:1] in b"cC"
                frame = self._transcript.frame("host", body)
                self._maybe_die("host", frame)
                if not self._answer(frame):
                    write_all(pipe.fileno(), raw)
        except BrokenPipeError:
            return  # the sidecar has ended, which the other direction notices
        finally:
            pipe.close()

    def _from_sidecar(self) -> None:
        assert self._child.stdout is not None
        for raw, body in frames(self._child.stdout.fileno()):
            if (noise := next(self._noise, None)) is not None:
                self._send(noise, "tap")
            frame = self._transcript.frame("sidecar", body)
            self._pass(self._changed(frame, raw))
            self._maybe_die("sidecar", frame)

    def _answer(self, frame: Any) -> bool:
        for rule in self._plan.get("answers", ()):
            if isinstance(frame, dict) and fits(rule["when"], frame):
                self._send({"jsonrpc": "2.0", "id": frame["id"], **rule["then"]}, "tap")
                return True
        return False

    def _changed(self, frame: Any, raw: bytes) -> bytes:
        extra = self._plan.get("extra")
        if not (extra or self._plan.get("ascii")):
            return raw
        for name in ("result", "error", "params"):
            if name in frame:
                frame[name].update(extra or {})
        return self._encoded(frame)

    def _encoded(self, frame: Any) -> bytes:
        return encoded(frame, self._with_headers, self._plan.get("ascii", False))

    def _send(self, frame: Any, source: str) -> None:
        self._transcript.add({"from": source, "frame": frame})
        self._pass(self._encoded(frame))

    def _pass(self, data: bytes) -> None:
        """Write to the client; if it has gone, stop reading from the sidecar, which shall notice."""
        step = self._plan.get("split", len(data))
        try:
            with self._writing:
                for at in range(0, len(data), step):
                    write_all(STDOUT, data[at : at + step])
                    if is_cut(data, at + step):
                        wait_until_read(STDOUT)  # else the client could read both parts at once
        except BrokenPipeError:
            assert self._child.stdout is not None
            self._child.stdout.close()

    def _maybe_die(self, source: str, frame: Any) -> None:
        if source == self._death.get("from") and fits(self._death["frame"], frame):
            self._lives -= 1
            if self._lives == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Transcript:
    """A file of lines, to which each process of the sidecar appends in turn."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def processes(self) -> int:
        """The number of processes started so far."""
        return sum(line.startswith('{"started"') for line in self._path.read_text(encoding="utf-8").splitlines())

    def add(self, entry: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(entry).encode() + b"\n")  # one write: lines of two threads stay whole

    def frame(self, source: str, body: bytes) -> Any:
        """Record a frame and return it; a body that is no JSON is recorded as text."""
        try:
            frame = json.loads(body)
        except ValueError:
            self.add({"from": source, "text": body.decode(errors="replace")})
            return None
        self.add({"from": source, "frame": frame})
        return frame

"""Plays a golden session against a sidecar and records the frames."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Iterator
from typing import Any

from .frames import cut, encoded
from .matching import fits
from .normal import Handles, Line, normal
from .sessions import Session

PATIENCE_S = 60.0


def record(session: Session, sidecar: list[str]) -> list[Line]:
    """The lines of a session's file: a head, each frame with its sender, the exit status."""
    host = Host([*sidecar, "serve", "--engine", "fake", *session.options], session.framing == "headers")
    try:
        for step, what in session.steps:
            (host.say if step == "say" else host.hear)(what)
        status = host.leave()
    finally:
        host.process.kill()
        host.process.wait()
    first = {"session": session.name, "about": session.about, "options": session.options, "framing": session.framing}
    lines = [{**line, "frame": host.handles.numbered(line["frame"])} for line in host.lines]
    return [first, *normal(lines), {"exit": status}]


class Host:
    """A host that records all frames that it sends and receives."""

    def __init__(self, command: list[str], with_headers: bool) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.lines: list[Line] = []
        self._with_headers = with_headers
        self._buffer = b""
        self.handles = Handles()

    def say(self, frame: Any) -> None:
        frame = json.loads(self.handles.actual(json.dumps(frame)).replace('"OURS"', str(os.getpid())))
        raw = encoded(frame, self._with_headers)
        self._note("host", frame, raw)
        assert self.process.stdin
        self.process.stdin.write(raw)

    def hear(self, pattern: Any) -> None:
        """Read until a frame fits.

        Raises:
            EOFError: The sidecar's output ended.
            TimeoutError: No frame came for a long time.
        """
        for frame in self._frames():
            if fits(pattern, frame):
                return
        raise EOFError(f"the sidecar ended, and without {pattern}")

    def leave(self) -> int:
        """End the input and read the rest; returns the exit status."""
        assert self.process.stdin
        self.process.stdin.close()
        for _ in self._frames():
            pass
        return self.process.wait(PATIENCE_S)

    def _note(self, source: str, frame: Any, raw: bytes) -> None:
        shown = {"raw": raw.decode()} if self._with_headers else {}
        self.lines.append({"from": source, "frame": frame, **shown})

    def _frames(self) -> Iterator[Any]:
        assert self.process.stdout
        while True:
            while found := cut(self._buffer):
                raw, body = found
                self._buffer = self._buffer[len(raw) :]
                frame = json.loads(body)
                self.handles.heard(frame)
                self._note("sidecar", frame, raw)
                yield frame
            if not select.select([self.process.stdout], [], [], PATIENCE_S)[0]:
                raise TimeoutError(f"nothing for {PATIENCE_S:g} s after {self.lines[-1:]}")
            data = self.process.stdout.read(1 << 16)
            if not data:
                return
            self._buffer += data

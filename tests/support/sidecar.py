"""A real sidecar over real pipes, for tests. Every frame it sends is checked against the committed schema."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

Frame = dict[str, Any]
ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0  # far beyond what anything takes: a test that gets here has found a hang


@cache
def outgoing() -> Draft202012Validator:
    """Validates any frame that the sidecar may send."""
    bundle = json.loads((ROOT / "schemas" / "mlx-sidecar.schema.json").read_text())
    return Draft202012Validator({"$ref": "#/$defs/AnyOutgoingFrame", "$defs": bundle["$defs"]})


class Sidecar:
    """One process. Frames are collected by a thread; tests wait for the ones they expect."""

    def __init__(self, *options: str, framing: str = "lines", stderr: int | None = None) -> None:
        command = [sys.executable, "-m", "mlx_sidecar", "serve", *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, bufsize=0
        )
        self.framing = framing
        self.frames: list[Frame] = []
        self.ended = False
        self._changed = threading.Condition()
        self._ids = count(1)
        self._reading = threading.Event()
        self._reading.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    # Writing.

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def send(self, frame: Any) -> None:
        body = json.dumps(frame).encode()
        self.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body) if self.framing == "headers" else body + b"\n")

    def request(self, method: str, params: Any = None, id_: Any = None) -> Any:
        """Send a request, return its id."""
        id_ = next(self._ids) if id_ is None else id_
        self.send({"jsonrpc": "2.0", "id": id_, "method": method, **({} if params is None else {"params": params})})
        return id_

    def notify(self, method: str, params: Any = None) -> None:
        self.send({"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})})

    def close_stdin(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    # Waiting.

    def wait_for(self, wanted: Callable[[Frame], bool]) -> Frame:
        """The first frame, from the beginning on, that is wanted."""
        seen = 0

        def found() -> Frame | None:
            nonlocal seen
            while seen < len(self.frames):
                seen += 1
                if wanted(self.frames[seen - 1]):
                    return self.frames[seen - 1]
            return None

        with self._changed:
            frame: Frame | None = None

            def settled() -> bool:
                nonlocal frame
                frame = found()
                return frame is not None or self.ended

            assert self._changed.wait_for(settled, PATIENCE_S), f"no such frame within {PATIENCE_S} s"
        assert frame is not None, f"the sidecar ended with {self.process.wait()} and without that frame"
        return frame

    def answer(self, id_: Any) -> Frame:
        return self.wait_for(lambda frame: "method" not in frame and frame.get("id") == id_)

    def result(self, id_: Any) -> Frame:
        answer = self.answer(id_)
        assert "result" in answer, answer
        result: Frame = answer["result"]
        return result

    def call(self, method: str, params: Any = None) -> Frame:
        return self.result(self.request(method, params))

    def error(self, method: str, params: Any = None) -> Frame:
        answer = self.answer(self.request(method, params))
        assert "error" in answer, answer
        error: Frame = answer["error"]
        return error

    def notification(self, method: str, **members: Any) -> Frame:
        """The first notification of this method whose params have these members."""
        frame = self.wait_for(lambda f: f.get("method") == method and members.items() <= f["params"].items())
        params: Frame = frame["params"]
        return params

    def initialize(self, **members: Any) -> Frame:
        """Say hello: from here on the sidecar tells of its engine's state, the present one first."""
        return self.call("initialize", {"protocol_version": 1, "client": {"name": "tests"}, **members})

    def engine_pid(self) -> int:
        """The engine there is; one that is being started again is waited for, after ``initialize``."""
        stats = self.call("stats")
        restarts, engine = stats["health"]["restarts"], stats["engine"]
        if "pid" not in engine:
            engine = self.notification("engine/state", state="ready", restarts=restarts)
        pid: int = engine["pid"]
        return pid

    def deltas(self, stream: str | int) -> list[Frame]:
        """Deltas of a stream so far, in the order of their coming."""
        with self._changed:
            return [
                frame["params"]
                for frame in self.frames
                if frame.get("method") == "stream/delta" and frame["params"]["stream"] == stream
            ]

    def exit_status(self) -> int:
        return self.process.wait(PATIENCE_S)

    def stop_reading(self) -> None:
        """Leave stdout alone after the chunk that is being read now."""
        self._reading.clear()

    def go_on_reading(self) -> None:
        self._reading.set()

    def close(self) -> None:
        """End the process and check everything it said."""
        self.process.kill()
        self.process.wait()
        self._reading.set()
        self._thread.join(PATIENCE_S)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        for frame in self.frames:
            outgoing().validate(frame)

    # Reading.

    def _read(self) -> None:
        assert self.process.stdout
        cut = _cut_headers if self.framing == "headers" else _cut_lines
        buffer = b""
        while True:
            self._reading.wait()
            data = self.process.stdout.read(1 << 16)
            if not data:
                break
            bodies, buffer = cut(buffer + data)
            with self._changed:
                for body in bodies:
                    frame = json.loads(body)
                    self.frames.extend(frame if isinstance(frame, list) else [frame])
                self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()


def _cut_lines(data: bytes) -> tuple[list[bytes], bytes]:
    *lines, rest = data.split(b"\n")
    return lines, rest


def _cut_headers(data: bytes) -> tuple[list[bytes], bytes]:
    bodies: list[bytes] = []
    while True:
        header, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            return bodies, data
        assert header.startswith(b"Content-Length: "), header
        size = int(header.removeprefix(b"Content-Length: "))
        if len(rest) < size:
            return bodies, data
        bodies.append(rest[:size])
        data = rest[size:]


@contextmanager
def sidecar(*options: str, framing: str = "lines") -> Iterator[Sidecar]:
    """A sidecar that is gone, and whose every frame was valid, when the block ends."""
    running = Sidecar(*options, framing=framing)
    try:
        yield running
    finally:
        running.close()

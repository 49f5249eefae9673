"""A real sidecar over real pipes, for a host that cuts its bytes anywhere and reads when it likes."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
import threading
from collections import deque

import psutil

from tests.support.sidecar import PATIENCE_S, ROOT, _cut_headers, _cut_lines

PIPE_BYTES = 4096  # small, so that the sidecar soon notices a host that does not read


class Host:
    """One process. A thread reads; the test takes whole frames, in order, when it likes."""

    def __init__(self, framing: str, *options: str) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by kill
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlx_sidecar", "serve", "--engine", "fake", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=ROOT,
            bufsize=0,
        )
        self.framing = framing
        assert self.process.stdout
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self.process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._held = b""
        self._frames: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._reads = threading.Event()
        self._reads.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def framed(self, body: bytes) -> bytes:
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body) if self.framing == "headers" else body + b"\n"

    def write(self, data: bytes, piece_bytes: int = 1 << 16, hold_bytes: int = 0) -> None:
        """Write in pieces, the last ``hold_bytes`` only with the next call."""
        assert self.process.stdin
        data = self._held + data
        cut = max(0, len(data) - hold_bytes)
        self._held = data[cut:]
        at = 0
        while at < cut:
            at += self.process.stdin.write(data[at : min(cut, at + piece_bytes)])

    def drop_held(self) -> None:
        """Forget held bytes."""
        self._held = b""

    def end_input(self) -> None:
        """Write held bytes, and close."""
        assert self.process.stdin
        self.write(b"")
        self.process.stdin.close()

    def stop_reading(self) -> None:
        """Stop reading after the present chunk."""
        self._reads.clear()

    def go_on_reading(self) -> None:
        self._reads.set()

    def take(self, *, wait: bool = False) -> list[bytes]:
        """Return frames read since the last call; with ``wait`` at least one, unless the sidecar has left."""
        with self._changed:
            if wait:
                some = self._changed.wait_for(lambda: self._frames or self._ended, PATIENCE_S)
                assert some, f"nothing was said for {PATIENCE_S} s"
            frames = list(self._frames)
            self._frames.clear()
        return frames

    @property
    def gone(self) -> bool:
        """Whether the sidecar has left and all its frames have been taken."""
        with self._changed:
            return self._ended and not self._frames

    def engines(self) -> list[psutil.Process]:
        """Return living engines of this sidecar, also after its end."""
        mine = ["--parent", str(self.process.pid)]
        processes = ((process, process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
        return [process for process, words in processes if mine in [words[at : at + 2] for at in range(len(words))]]

    def complaints(self) -> str:
        """Return the sidecar's standard error."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def kill(self) -> None:
        """Kill the sidecar, if it runs, and close its pipes."""
        self.process.kill()
        self.process.wait()
        self._reads.set()
        self._thread.join(PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout, self._stderr):
            if pipe:
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout
        cut = _cut_headers if self.framing == "headers" else _cut_lines
        rest = b""
        while True:
            self._reads.wait()
            data = self.process.stdout.read(1 << 16)
            if not data:
                break
            bodies, rest = cut(rest + data)
            with self._changed:
                self._frames.extend(bodies)
                self._changed.notify_all()
        with self._changed:
            if rest:
                self._frames.append(rest)  # half a frame, which the test will refuse
            self._ended = True
            self._changed.notify_all()

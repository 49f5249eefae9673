"""A host at the level of bytes: it cuts its messages anywhere, and reads whole frames when it likes."""

from __future__ import annotations

import threading
from collections import deque
from typing import IO

PATIENCE_S = 60.0  # far beyond what anything takes: a test that gets here has found a hang


class ByteHost:
    """The host's ends of two pipes, ``stdin`` and ``stdout`` of a sidecar, both without a buffer.

    A thread reads; the test takes whole frames, in order, when it likes.
    """

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes], framing: str) -> None:
        self.framing = framing
        self.ended = False  # the sidecar has closed its output, and all of that has been read
        self._stdin, self._stdout = stdin, stdout
        self._held = b""
        self._bodies: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._reads = threading.Event()
        self._reads.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    # Writing.

    def framed(self, body: bytes) -> bytes:
        """``body`` as a frame."""
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body) if self.framing == "headers" else body + b"\n"

    def write(self, data: bytes, piece_bytes: int = 1 << 16, hold_bytes: int = 0) -> None:
        """Write in pieces; the last ``hold_bytes`` only with the next call."""
        view = memoryview(self._held + data)
        cut = max(0, len(view) - hold_bytes)
        self._held = bytes(view[cut:])
        at = 0
        while at < cut:
            at += self._stdin.write(view[at : min(cut, at + piece_bytes)])

    def drop_held(self) -> None:
        """Never write the bytes held back."""
        self._held = b""

    def close_stdin(self) -> None:
        """Write the bytes held back, and end the input of the sidecar."""
        self.write(b"")
        self._stdin.close()

    # Reading.

    def stop_reading(self) -> None:
        """Leave stdout alone after the chunk that is being read now."""
        self._reads.clear()

    def go_on_reading(self) -> None:
        """Read again."""
        self._reads.set()

    def take(self, *, wait: bool = False) -> list[bytes]:
        """Frames that were read since the last call; with ``wait`` at least one, unless the sidecar has left."""
        with self._changed:
            if wait:
                some = self._changed.wait_for(lambda: self._bodies or self.ended, PATIENCE_S)
                assert some, f"nothing was said for {PATIENCE_S} s"
            bodies = list(self._bodies)
            self._bodies.clear()
        return bodies

    @property
    def gone(self) -> bool:
        """Whether all that the sidecar will ever say has been taken."""
        with self._changed:
            return self.ended and not self._bodies

    def close_pipes(self) -> None:
        """Read the last words of a sidecar that has ended, and close both ends."""
        self._reads.set()
        self._thread.join(PATIENCE_S)
        self._stdin.close()
        self._stdout.close()

    def _heard(self, bodies: list[bytes]) -> None:
        """Keep whole frames. Called on the reading thread, which holds the lock."""
        self._bodies.extend(bodies)

    def _read(self) -> None:
        cut = _cut_headers if self.framing == "headers" else _cut_lines
        rest = b""
        while True:
            self._reads.wait()
            data = self._stdout.read(1 << 16)
            if not data:
                break
            bodies, rest = cut(rest + data)
            with self._changed:
                self._heard(bodies)
                self._changed.notify_all()
        with self._changed:
            if rest:
                self._heard([rest])  # half a frame, which no reader of frames can take for one
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

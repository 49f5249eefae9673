"""A program in a real pseudo-terminal, and the screen that an emulator draws of what it writes."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyte

from .byte_host import PATIENCE_S
from .sidecar import ROOT

CTRL_C, CTRL_D, CTRL_R, UP, ENTER, ALT_ENTER = "\x03", "\x04", "\x12", "\x1b[A", "\r", "\x1b\r"


class Terminal:
    """A program, its terminal of ``columns`` by ``rows``, and what stands on it and above it."""

    def __init__(self, words: Sequence[str], env: dict[str, str], columns: int, rows: int) -> None:
        self._screen = _AnsweringScreen(columns, rows, self._reply)
        self._stream = pyte.ByteStream(self._screen)
        self._drawn = threading.Condition()
        self.written = b""  # all bytes so far
        self._typing = threading.Lock()
        self._replies: deque[str] = deque()
        self._ended = False
        self._leader, terminal = os.openpty()
        _set_size(self._leader, columns, rows)
        self.process = subprocess.Popen(
            words, stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT, env=env, preexec_fn=_own_terminal
        )
        os.close(terminal)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def lines(self) -> list[str]:
        """All lines, those that left the screen above as well, without blanks at their ends."""
        with self._drawn:
            gone = [_text(row, self._screen.columns) for row in self._screen.history.top]
            return [*gone, *(line.rstrip() for line in self._screen.display)]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def screen(self) -> pyte.HistoryScreen:
        return self._screen

    @property
    def modes(self) -> int:
        """The local modes of the terminal, such as ``termios.ECHO``."""
        modes = termios.tcgetattr(self._leader)[3]
        assert isinstance(modes, int)
        return modes

    def type(self, keys: str) -> None:
        """Send ``keys``, all of them, however slowly the program reads; a reply comes before or after them."""
        with self._typing:
            self._send(keys)
        self._send_replies()

    def paste(self, text: str) -> None:
        """Paste as a terminal does that was asked for bracketed paste."""
        self.type(f"\x1b[200~{text}\x1b[201~")

    def wait(self, shows: Callable[[], bool], what: str = "") -> None:
        """Wait until ``shows`` of what is drawn."""
        with self._drawn:
            self._drawn.wait_for(lambda: shows() or self._ended, PATIENCE_S)
            assert shows(), f"{what}\n{self.text}"

    def wait_for(self, text: str, times: int = 1) -> None:
        self.wait(lambda: self.text.count(text) >= times, f"no {text!r} on:")

    def resize(self, columns: int, rows: int) -> None:
        with self._drawn:
            self._screen.resize(rows, columns)
        _set_size(self._leader, columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def end(self) -> int:
        """The exit status."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_S)
        os.close(self._leader)

    def _reply(self, answer: str) -> None:
        self._replies.append(answer)
        self._send_replies()

    def _send_replies(self) -> None:
        while self._replies and self._typing.acquire(blocking=False):
            try:
                while self._replies:
                    self._send(self._replies.popleft())
            finally:
                self._typing.release()

    def _send(self, text: str) -> None:
        left = text.encode()
        while left:
            left = left[os.write(self._leader, left[:1024]) :]

    def _read(self) -> None:
        try:
            while data := os.read(self._leader, 65536):
                with self._drawn:
                    self.written += data
                    self._stream.feed(data)
                    self._drawn.notify_all()
        except OSError:  # EIO: the program has left its terminal
            pass
        with self._drawn:
            self._ended = True
            self._drawn.notify_all()


class _AnsweringScreen(pyte.HistoryScreen):
    """A screen that answers where the cursor is, as every terminal does."""

    def __init__(self, columns: int, rows: int, reply: Callable[[str], None]) -> None:
        super().__init__(columns, rows, history=10_000)
        self._reply = reply

    def select_graphic_rendition(self, *attrs: int, **kwargs: Any) -> None:
        """Faint text, which the emulator does not know, is grey."""
        plain = 38 not in attrs and 48 not in attrs
        super().select_graphic_rendition(*(90 if plain and attr == 2 else attr for attr in attrs), **kwargs)

    def write_process_input(self, data: str) -> None:
        self._reply(data)


def _text(row: Any, columns: int) -> str:
    return "".join(row[column].data for column in range(columns)).rstrip()


def _set_size(fd: int, columns: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(*words: str, columns: int = 80, rows: int = 24, **env: str) -> Iterator[Terminal]:
    """``mlx-sidecar WORDS`` in a terminal, which is gone when the block ends."""
    command = [sys.executable, "-m", "mlx_sidecar", *words]
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    running = Terminal(command, {**clean, "TERM": "xterm-256color", **env}, columns, rows)
    try:
        yield running
    finally:
        running.close()

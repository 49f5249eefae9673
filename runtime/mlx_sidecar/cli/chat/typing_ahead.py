"""Keeps text that is typed or pasted while no question is asked for, until the next one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

# Bracketed paste, which the line editor switches on for itself alone.
_MARKED, _PLAIN = b"\x1b[?2004h", b"\x1b[?2004l"


@contextmanager
def typing_ahead() -> Iterator[None]:
    """Keep what is typed, unseen and whole, as long as the block runs. Ctrl-C stays a signal.

    The system's own line editing would show it in the middle of an answer, and drop what is beyond 4,095 characters.
    SIGTERM and SIGHUP leave the block as an exception does, so that the terminal is as it was before.
    """
    if not sys.stdin.isatty():
        yield
        return
    import termios

    fd = sys.stdin.fileno()
    before, quiet = termios.tcgetattr(fd), termios.tcgetattr(fd)
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(fd, termios.TCSADRAIN, quiet)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        yield
    finally:
        mark_pastes(marked=False)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _leave(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def mark_pastes(*, marked: bool = True) -> None:
    """Have the terminal say where a paste begins and ends, so that its line ends are not taken for Enter."""
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), _MARKED if marked else _PLAIN)

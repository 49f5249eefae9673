"""Writes log lines to stderr without ever blocking, because many hosts give us a pipe there and never read it.

Imports nothing heavy: the engine logs this way too.
"""

from __future__ import annotations

import logging
import os
import select

_STDERR = 2


def log_to_stderr(level: str, line_format: str) -> None:
    """Begin logging at ``level`` and above. A line for which the pipe has no room is lost."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter(line_format))
    logging.basicConfig(handlers=[handler], level=level.upper())


def say(text: str) -> None:
    """Write ``text`` to stderr, as far as there is room for it."""
    line = text.encode(errors="backslashreplace")
    # A pipe or terminal that polls as writable takes PIPE_BUF bytes at once.
    for start in range(0, len(line), select.PIPE_BUF):
        if not _has_room():
            return
        try:
            os.write(_STDERR, line[start : start + select.PIPE_BUF])
        except BlockingIOError:  # another process took the room
            return


def _has_room() -> bool:
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    return poll.poll(0) == [(_STDERR, select.POLLOUT)]


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            say(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - a line that cannot be formatted must not fail the code that logs it
            self.handleError(record)

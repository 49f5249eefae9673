"""Log lines on stderr that wait for nobody. Many a host hands us a pipe there and never reads it.

Imports nothing heavy: the engine logs this way too.
"""

from __future__ import annotations

import logging
import os
import select

_STDERR = 2


def log_to_stderr(level: str, line_format: str) -> None:
    """Begin logging. A line for which there is no room is lost, and what logs it goes on."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter(line_format))
    logging.basicConfig(handlers=[handler], level=level.upper())


def say(text: str) -> None:
    """Write ``text`` to stderr, as far as there is room for it."""
    line = text.encode(errors="backslashreplace")
    # That much poll promises to take at once, of a pipe as of a terminal.
    for start in range(0, len(line), select.PIPE_BUF):
        if not _has_room():
            return
        try:
            os.write(_STDERR, line[start : start + select.PIPE_BUF])
        except BlockingIOError:  # another process was quicker
            return


def _has_room() -> bool:
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    return poll.poll(0) == [(_STDERR, select.POLLOUT)]


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            say(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - a line that cannot be formatted is no fault of what wrote it
            self.handleError(record)

"""Where log lines go: to stderr, and from ``initialize`` on to the host as ``log`` notifications instead."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlx_sidecar_protocol.notifications import LogLevel, LogParams

from .stderr import log_to_stderr, say


def to_stderr(level: str) -> None:
    """Begin logging, before there is a host to tell."""
    log_to_stderr(level, "mlx-sidecar: %(levelname)s: %(name)s: %(message)s")


def to_host(send: Callable[[LogParams], None]) -> None:
    """From now on the host is told. ``send`` may be called in any thread."""
    root = logging.getLogger()
    root.handlers[:] = [_HostHandler(send)]


class _HostHandler(logging.Handler):
    def __init__(self, send: Callable[[LogParams], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # Exceptions stay on this side: a traceback is for stderr, which a host shows nobody.
            if record.exc_info:
                say(logging.Formatter().formatException(record.exc_info) + "\n")
            self._send(LogParams(level=_level(record.levelno), message=record.getMessage(), logger=record.name))
        except Exception:  # noqa: BLE001 - a line that cannot be formatted is no fault of what wrote it
            self.handleError(record)


_LEVELS: tuple[tuple[int, LogLevel], ...] = (
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
    (logging.NOTSET, "debug"),
)


def _level(number: int) -> LogLevel:
    """The level of the wire for a number of the library; libraries invent levels in between."""
    return next(level for least, level in _LEVELS if number >= least)

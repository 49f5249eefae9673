"""Where log lines go: to stderr, and from ``initialize`` on to the host as ``log`` notifications instead."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import cast

from mlx_sidecar_protocol.notifications import LogLevel, LogParams


def to_stderr(level: str) -> None:
    """Begin logging, before there is a host to tell."""
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="mlx-sidecar: %(levelname)s: %(name)s: %(message)s"
    )


def to_host(send: Callable[[LogParams], None]) -> None:
    """From now on the host is told. ``send`` may be called in any thread."""
    root = logging.getLogger()
    root.handlers[:] = [_HostHandler(send)]


class _HostHandler(logging.Handler):
    def __init__(self, send: Callable[[LogParams], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
        # Exceptions stay on this side: a traceback is for stderr, which a host shows nobody.
        if record.exc_info:
            sys.stderr.write(logging.Formatter().formatException(record.exc_info) + "\n")
        self._send(LogParams(level=cast(LogLevel, level), message=record.getMessage(), logger=record.name))

"""Where log lines go from ``initialize`` on: to the host, as ``log`` notifications, and no longer to stderr."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlx_sidecar_protocol.notifications import LogLevel, LogParams

from .stderr import say

OnLine = Callable[[LogParams], None]


class HostLogs(logging.Handler):
    """Tells log lines to the hosts that want them, and to nobody else while there is one."""

    def __init__(self) -> None:
        super().__init__()
        self._hosts: tuple[OnLine, ...] = ()
        self._before: list[logging.Handler] = []

    def add(self, host: OnLine) -> None:
        """From now on ``host`` is told, in any thread."""
        if not self._hosts:
            root = logging.getLogger()
            self._before, root.handlers[:] = root.handlers[:], [self]
        self._hosts += (host,)

    def remove(self, host: OnLine) -> None:
        """``host`` is not told any more, if it was. After the last one lines go where they went before."""
        if host not in self._hosts:
            return
        self._hosts = tuple(other for other in self._hosts if other != host)
        if not self._hosts:
            logging.getLogger().handlers[:] = self._before

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # Exceptions stay on this side: a traceback is for stderr, which a host shows nobody.
            if record.exc_info:
                say(logging.Formatter().formatException(record.exc_info) + "\n")
            line = LogParams(level=_level(record.levelno), message=record.getMessage(), logger=record.name)
            for host in self._hosts:
                host(line)
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

"""The request log: a line of JSON for each request, written at its end by a thread, for which no answer waits."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from ..core.records import Record, Records
from .request_line import BODY_LIMIT_BYTES, line_of
from .rotating_file import RotatingFile

log = logging.getLogger("mlx_sidecar_gateway")

QUEUE_LIMIT_BYTES = 16 * 2**20  # of what waits to be written: about 8,000 lines without bodies
_LINE_BYTES = 2000  # of memory for a record that waits; many have less
_LAST_LINES_S = 5.0  # for what waits at the end of the gateway, on a disk that may hang


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """The file, the size at which it becomes ``FILE.1``, how many such are kept, and whether bodies are logged."""

    file: Path
    limit_bytes: int = 32 * 2**20
    older: int = 4
    with_bodies: bool = False


class RequestLog:
    """Hears the record of each request, and has it written.

    A line that finds no room, or that the disk refuses, is dropped and counted, and the next one that is written tells
    how many were. Raises ``OSError`` or ``ValueError`` for a file that cannot be written.
    """

    def __init__(self, settings: LogSettings) -> None:
        self._with_bodies = settings.with_bodies
        self._file = RotatingFile(settings.file, settings.limit_bytes, settings.older)
        # The event loop puts in at one end, the thread takes out at the other; all that both touch is under this lock,
        # which the thread never holds while it writes.
        self._changed = Condition()
        self._waiting: deque[tuple[Record, bytes | None]] = deque()
        self._waiting_bytes = 0
        self._is_closing = False
        self._written = self._dropped = self._told = 0
        self._error: str | None = None
        self._thread = Thread(target=self._write_all, name="request-log", daemon=True)
        self._thread.start()

    def attach(self, records: Records) -> None:
        """Hear all requests from now on."""
        records.keeps_bodies = self._with_bodies
        records.listeners.append(self.hear)

    def hear(self, record: Record) -> None:
        """Have the line of ``record`` written; returns at once."""
        body, record.body = record.body[: BODY_LIMIT_BYTES + 1], b""  # records may be kept for longer
        with self._changed:
            if self._is_closing or self._waiting_bytes >= QUEUE_LIMIT_BYTES:
                self._dropped += 1
                return
            self._waiting.append((record, body if self._with_bodies else None))
            self._waiting_bytes += _weight(body)
            self._changed.notify()

    def figures(self) -> dict[str, Any]:
        """Counts of lines since the start, and the disk's last error, null while all is well."""
        with self._changed:
            waiting = len(self._waiting)
            return {"written": self._written, "dropped": self._dropped, "waiting": waiting, "error": self._error}

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(_LAST_LINES_S)
        if self._thread.is_alive():
            log.error("the request log could not be written out: the disk does not answer")
        if self._dropped > self._told:
            log.error("%d requests are not in the request log", self._dropped - self._told)

    # The thread.

    def _write_all(self) -> None:
        while (next_line := self._next()) is not None:
            self._write(*next_line)
        self._file.close()

    def _next(self) -> tuple[Record, bytes | None] | None:
        """The line that waits longest, or None at the end."""
        with self._changed:
            while not self._waiting:
                if self._is_closing:
                    return None
                self._changed.wait()
            record, body = self._waiting.popleft()
            self._waiting_bytes -= _weight(body)
            return record, body

    def _write(self, record: Record, body: bytes | None) -> None:
        dropped = self._dropped - self._told
        try:
            self._file.append(line_of(record, body, dropped))
        except Exception as error:  # noqa: BLE001 - told in ``_failed``; a thread that ended would drop all later lines
            self._failed(error)
            return
        with self._changed:
            self._written += 1
            self._told += dropped
            self._error = None

    def _failed(self, error: Exception) -> None:
        with self._changed:
            self._dropped += 1
            is_new, self._error = self._error is None, str(error)
        if is_new:
            log.error("the request log cannot be written: %s", error, exc_info=not isinstance(error, OSError))


def _weight(body: bytes | None) -> int:
    return _LINE_BYTES + (0 if body is None else len(body))

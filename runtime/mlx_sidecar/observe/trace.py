"""Writes a time line of device operations and phases of requests, in Chrome's trace event format.

Open the file in Perfetto or in chrome://tracing. The JSON array is never closed, because an engine may end at any
moment, and the format allows it. Times are of the system's monotonic clock, so that several engines share one file.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import IO

_DEVICE = 1  # the track of the device; requests have tracks of their own, by number
_LINES = 256  # waiting events that force a write

log = logging.getLogger(__name__)


class Trace:
    """Appends events to a file at each ``flush``; the last ones may be lost."""

    # Unbuffered, because a buffered file may end in the middle of a line, where the next engine would go on.

    def __init__(self, path: Path) -> None:
        """Raises OSError if ``path`` cannot be opened."""
        self._pid = os.getpid()
        self._file: IO[bytes] | None = path.open("ab", buffering=0)
        self._lines = ["[\n"] if self._file.tell() == 0 else []
        self._write({"ph": "M", "name": "process_name", "args": {"name": "mlx-sidecar engine"}})
        self._write({"ph": "M", "name": "thread_name", "tid": _DEVICE, "args": {"name": "device"}})

    def operation(self, name: str, began_s: float, ended_s: float, **args: str | int) -> None:
        """Add one operation of the device, with times in seconds on the monotonic clock."""
        duration = round((ended_s - began_s) * 1e6)
        event = {"ph": "X", "cat": "device", "name": name, "tid": _DEVICE}
        self._write({**event, "ts": _us(began_s), "dur": duration, "args": args})

    def phase(self, request: int, name: str, began_s: float, ended_s: float, **args: str | int) -> None:
        """Add a phase of a request: queue, prefill or decode."""
        event = {"cat": "request", "name": name, "id": request, "tid": 0}
        self._write({**event, "ph": "b", "ts": _us(began_s), "args": args})
        self._write({**event, "ph": "e", "ts": _us(ended_s)})

    def flush(self) -> None:
        """Write waiting events. If that fails, e.g. on a full disk, the time line ends and the engine goes on."""
        lines, self._lines = self._lines, []
        if self._file is None or not lines:
            return
        try:
            self._file.write("".join(lines).encode())
        except OSError as error:
            log.error("the trace ends here: %s", error)
            self._file.close()
            self._file = None

    def _write(self, event: dict[str, object]) -> None:
        self._lines.append(json.dumps({"pid": self._pid, **event}) + ",\n")
        if len(self._lines) >= _LINES:
            self.flush()


def _us(seconds: float) -> int:
    return round(seconds * 1e6)

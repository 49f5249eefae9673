"""A time line of what the device did and what became of each request, in Chrome's trace event format.

Open the file in Perfetto or in chrome://tracing. The array is never closed: an engine may end at any moment, and the
format allows it. Times are of the system's monotonic clock, so that the files of several engines fit together.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO

_DEVICE = 1  # the track of the device; requests have tracks of their own, by number


class Trace:
    """Appends events to a file. Written out whenever ``flush`` is called; losing the last ones is no harm."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if ``path`` cannot be written."""
        self._pid = os.getpid()
        self._file: IO[str] = path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self._file.write("[\n")
        self._write({"ph": "M", "name": "process_name", "args": {"name": "mlx-sidecar engine"}})
        self._write({"ph": "M", "name": "thread_name", "tid": _DEVICE, "args": {"name": "device"}})

    def operation(self, name: str, began_s: float, ended_s: float, **args: str | int) -> None:
        """One operation of the device."""
        duration = round((ended_s - began_s) * 1e6)
        event = {"ph": "X", "cat": "device", "name": name, "tid": _DEVICE}
        self._write({**event, "ts": _us(began_s), "dur": duration, "args": args})

    def phase(self, request: int, name: str, began_s: float, ended_s: float, **args: str | int) -> None:
        """A part of a request's life: queue, prefill or decode."""
        event = {"cat": "request", "name": name, "id": request, "tid": 0}
        self._write({**event, "ph": "b", "ts": _us(began_s), "args": args})
        self._write({**event, "ph": "e", "ts": _us(ended_s)})

    def flush(self) -> None:
        self._file.flush()

    def _write(self, event: dict[str, object]) -> None:
        self._file.write(json.dumps({"pid": self._pid, **event}) + ",\n")


def _us(seconds: float) -> int:
    return round(seconds * 1e6)

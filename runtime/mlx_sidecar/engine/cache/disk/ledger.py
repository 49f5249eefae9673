"""The bytes that all processes of a directory have promised to write there, in a file that one holds at a time."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "quota"
_NUMBER = struct.Struct("<q")
# A process that was stopped while it held the ledger must not stop the others, which do without a write then.
_PATIENCE_S, _AGAIN_S = 0.25, 0.001


class Busy(Exception):
    """Another process has held the ledger for longer than any does that runs."""


class Ledger:
    """The promised bytes, while this process holds them. They are never less than what the files take."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def promised_bytes(self) -> int | None:
        """The bytes, as last written by any process; None if no process has."""
        found = os.pread(self._descriptor, _NUMBER.size, 0)
        return int(_NUMBER.unpack(found)[0]) if len(found) == _NUMBER.size else None

    @promised_bytes.setter
    def promised_bytes(self, nbytes: int) -> None:
        os.pwrite(self._descriptor, _NUMBER.pack(nbytes), 0)


@contextmanager
def held(directory: Path) -> Iterator[Ledger]:
    """Hold the ledger of ``directory``. A process that dies lets go of it. Raises Busy, and OSError."""
    descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor)
        yield Ledger(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                raise Busy from None
            time.sleep(_AGAIN_S)

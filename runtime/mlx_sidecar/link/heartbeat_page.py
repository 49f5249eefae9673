"""The heartbeat page is memory shared by engine and front, readable when the engine hangs or is gone.

The engine writes each device operation there before it begins, in microseconds and without a system call. So after a
death or in a hang the front knows the requests that the device was working on, and since when nothing has changed.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from array import array
from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["", "message", "load", "step"]

SIZE_BYTES = 4096
_KINDS: tuple[Kind, ...] = ("", "message", "load", "step")
_OF_KIND = {kind: index for index, kind in enumerate(_KINDS)}
# In words of eight bytes: the version, then two notes, of which the version's last bit names the valid one. A note is
# operations, taken, bound_s, ended_s, models, kind, operating, number of ids, then the ids.
_HEAD = struct.Struct("=QQddQQQQ")
_HEAD_WORDS = _HEAD.size // 8
_NOTE_WORDS = (SIZE_BYTES // 8 - 1) // 2
_MOST_IDS = _NOTE_WORDS - _HEAD_WORDS
_TRIES = 1000


class Snapshot(NamedTuple):
    """The engine's last note. The device completed ``operations``, the last at ``ended_s`` on the monotonic clock.

    ``ended_s`` is 0 before the first. ``taken`` messages of the front have reached the step loop. While ``operating``,
    the operation may take ``bound_s`` seconds. ``ids`` are in work on the device: sequences for a step or a message,
    control requests for a load. ``models`` is the number of resident models.
    """

    operations: int = 0
    taken: int = 0
    bound_s: float = 0.0
    ended_s: float = 0.0
    models: int = 0
    kind: Kind = ""
    operating: bool = False
    ids: tuple[int, ...] = ()


class HeartbeatPage:
    """A page with one writer, the step loop, and one reader, the front; a child inherits ``fd``."""

    # The writer fills the invalid note and then makes it the valid one, so the other is whole wherever the writer
    # stops. A reader reads again if the version changed meanwhile, because its note may have been half filled.

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, SIZE_BYTES)
        self._words = memoryview(self._memory).cast("Q")
        self._version = self._operations = self._taken = self._models = 0
        self._bound_s = self._ended_s = 0.0
        self._kind: Kind = ""
        self._ids = array("Q")
        self._operating = False

    @classmethod
    def create(cls) -> HeartbeatPage:
        """A new, empty page without a name, so no file is left of it. Raises OSError."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("mlx-sidecar")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, SIZE_BYTES)
        return cls(fd)

    def close(self) -> None:
        self._words.release()
        self._memory.close()
        os.close(self.fd)

    # The engine.

    def begin(self, kind: Kind, ids: Sequence[int], bound_s: float) -> None:
        """The device, or for a message the loop, is about to work on ``ids``. There is room for the first 247."""
        self._kind, self._ids, self._bound_s = kind, array("Q", ids[:_MOST_IDS]), bound_s
        self._operating = True
        self._write()

    def end(self, now: float, in_flight: Sequence[int] = ()) -> None:
        """The operation ended at ``now``; the device still has a step of the sequences ``in_flight``."""
        self._operating = False
        if self._kind != "message":  # the device had no part in that
            self._operations += 1
            self._ended_s = now
        self._flies(in_flight)
        self._write()

    def landed(self) -> None:
        """The step in flight was dropped without an operation to read it."""
        self._flies(())
        self._write()

    def note(self, *, taken: int, models: int) -> None:
        """In all ``taken`` messages have reached the loop; ``models`` models are resident."""
        if taken != self._taken or models != self._models:
            self._taken, self._models = taken, models
            self._write()

    def _flies(self, ids: Sequence[int]) -> None:
        self._kind, self._ids = "step" if ids else "", array("Q", ids[:_MOST_IDS])

    def _write(self) -> None:
        version = self._version = self._version + 1
        start = 1 + version % 2 * _NOTE_WORDS
        count = len(self._ids)
        _HEAD.pack_into(
            self._memory,
            8 * start,
            self._operations,
            self._taken,
            self._bound_s,
            self._ended_s,
            self._models,
            _OF_KIND[self._kind],
            self._operating,
            count,
        )
        if count:
            start += _HEAD_WORDS
            self._words[start : start + count] = self._ids
        self._words[0] = version

    # The front.

    def read(self) -> Snapshot:
        """The engine's last note."""
        version, data = self._words[0], self._memory[:]
        for _ in range(_TRIES):
            if self._words[0] == version:
                break
            version, data = self._words[0], self._memory[:]
        start = 8 * (1 + version % 2 * _NOTE_WORDS)
        operations, taken, bound_s, ended_s, models, kind, operating, count = _HEAD.unpack_from(data, start)
        # Checked, because a broken engine may have written anything.
        ids = struct.unpack_from(f"={min(count, _MOST_IDS)}Q", data, start + _HEAD.size)
        return Snapshot(operations, taken, bound_s, ended_s, models, _KINDS[kind % len(_KINDS)], bool(operating), ids)

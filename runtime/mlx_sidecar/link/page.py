"""The page of memory that engine and front share: what the device is doing, readable when the engine no longer speaks.

The engine notes what it gives to the device before it does, in microseconds and without a system call. So after a death
or in a hang the front knows which requests the device was working on, and since when nothing has moved.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["", "message", "load", "step"]

SIZE_BYTES = 4096
_KINDS: tuple[Kind, ...] = ("", "message", "load", "step")
# version, operations, taken, bound_s, ended_s, models, number of ids, kind, operating
_HEAD = struct.Struct("<QQQddIHB?")
_VERSION = struct.Struct("<Q")
_MOST_IDS = (SIZE_BYTES - _HEAD.size) // 8


class Snapshot(NamedTuple):
    """``operations`` were completed, the last at ``ended_s`` on the system's monotonic clock (0: none yet).

    ``taken`` messages of the front have reached the step loop. While ``operating``, the operation may take ``bound_s``.
    ``ids`` are what the device has been given and has not given back: numbers of sequences for a step or a message, of
    control requests for a load. ``models`` are resident.
    """

    operations: int = 0
    taken: int = 0
    bound_s: float = 0.0
    ended_s: float = 0.0
    models: int = 0
    kind: Kind = ""
    operating: bool = False
    ids: tuple[int, ...] = ()


class Page:
    """One writer, the step loop; one reader, the front. ``fd`` is what a child inherits."""

    # The writer makes the version odd, writes, and makes it even: a reader that meets an odd one, or two versions,
    # reads again. The writer may die in between; then the version stays odd and the page is as good as it is.

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, SIZE_BYTES)
        self._version = 0
        self._now = Snapshot()

    @classmethod
    def create(cls) -> Page:
        """A new, empty page. It has no name, so nothing is left of it. Raises OSError."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("mlx-sidecar")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, SIZE_BYTES)
        return cls(fd)

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)

    # The engine.

    def begin(self, kind: Kind, ids: Sequence[int], bound_s: float) -> None:
        """The device, or for a message the loop, is about to work on ``ids``."""
        self._write(self._now._replace(kind=kind, ids=tuple(ids[:_MOST_IDS]), bound_s=bound_s, operating=True))

    def end(self, now: float, *, in_flight: bool = False) -> None:
        """It is done, at ``now``. ``in_flight``: the device has work of the same sequences still."""
        done = self._now._replace(operating=False, operations=self._now.operations + 1, ended_s=now)
        self._write(done if in_flight else done._replace(kind="", ids=()))

    def note(self, *, taken: int, models: int) -> None:
        """``taken`` messages, in all, have reached the loop; ``models`` are resident."""
        if (taken, models) != (self._now.taken, self._now.models):
            self._write(self._now._replace(taken=taken, models=models))

    def _write(self, now: Snapshot) -> None:
        self._now = now
        _VERSION.pack_into(self._memory, 0, self._version + 1)
        kind, count = _KINDS.index(now.kind), len(now.ids)
        struct.pack_into(f"<{count}Q", self._memory, _HEAD.size, *now.ids)
        self._version += 2
        _HEAD.pack_into(
            self._memory,
            0,
            self._version - 1,
            now.operations,
            now.taken,
            now.bound_s,
            now.ended_s,
            now.models,
            count,
            kind,
            now.operating,
        )
        _VERSION.pack_into(self._memory, 0, self._version)

    # The front.

    def read(self) -> Snapshot:
        """What the engine noted last."""
        for _ in range(100):
            version, *fields = _HEAD.unpack_from(self._memory)
            operations, taken, bound_s, ended_s, models, count, kind, operating = fields
            ids = struct.unpack_from(f"<{min(count, _MOST_IDS)}Q", self._memory, _HEAD.size)
            if version % 2 == 0 and _VERSION.unpack_from(self._memory)[0] == version:
                break
        return Snapshot(operations, taken, bound_s, ended_s, models, _KINDS[kind % len(_KINDS)], operating, ids)

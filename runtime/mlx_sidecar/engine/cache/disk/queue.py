"""What the disk tier is asked for: reads first, for somebody waits for each; then the rest; writes last."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

Job = Callable[[], None]


class Read(NamedTuple):
    """The next file of a read, and how many follow it."""

    key: int
    path: Path
    left: int


class _Write(NamedTuple):
    job: Job
    identity: str
    nbytes: int


class Queue:
    """Between the step loop, which asks and never waits here, and the thread that does what is asked, one at a time.

    Everything in here is guarded by the one lock, which nobody holds for longer than a few operations of dictionaries.
    """

    def __init__(self, pending_limit_bytes: int) -> None:
        self.writes_dropped = 0
        self._pending_limit_bytes = pending_limit_bytes
        self.pending_bytes = 0  # read by anybody: a number is taken whole
        self._reads: dict[int, deque[Path]] = {}
        self._others: deque[Job] = deque()
        self._writes: deque[_Write] = deque()
        self._busy = False
        self._writing_bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    # For the step loop.

    def read(self, key: int, paths: Sequence[Path]) -> None:
        """``paths`` are read in order, and never more than one after ``cancel``."""
        with self._changed:
            self._reads[key] = deque(paths)
            self._changed.notify_all()

    def cancel(self, key: int) -> None:
        with self._changed:
            self._reads.pop(key, None)

    def put(self, job: Job, *, first: bool = False) -> None:
        with self._changed:
            if first:
                self._others.appendleft(job)
            else:
                self._others.append(job)
            self._changed.notify_all()

    def write(self, job: Job, identity: str, nbytes: int) -> bool:
        """False, and the write is dropped, if those that wait have too many bytes already."""
        with self._changed:
            if self.pending_bytes + nbytes > self._pending_limit_bytes:
                self.writes_dropped += 1
                return False
            self.pending_bytes += nbytes
            self._writes.append(_Write(job, identity, nbytes))
            self._changed.notify_all()
            return True

    def drop_writes(self, identity: str | None) -> None:
        """Forget the writes of ``identity``, or all, that have not begun."""
        with self._changed:
            kept = deque(write for write in self._writes if identity not in (None, write.identity))
            self.pending_bytes -= sum(write.nbytes for write in self._writes) - sum(write.nbytes for write in kept)
            self._writes = kept

    def wait(self) -> None:
        """Until everything is done."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._reads or self._others or self._writes or self._busy))

    def close(self) -> None:
        """What waits is still done; then there is nothing more to be had."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # For the thread.

    def next(self) -> Read | Job | None:
        """What to do next; the last job is done, and nothing of it is in memory. None when nothing will ever come."""
        with self._changed:
            self._busy = False
            self.pending_bytes -= self._writing_bytes
            self._writing_bytes = 0
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._reads or self._others or self._writes or self._closed)
            self._busy = True
            if self._reads:
                key, paths = next(iter(self._reads.items()))
                return Read(key, paths.popleft(), len(paths))
            if self._others:
                return self._others.popleft()
            if self._writes:
                job, _, self._writing_bytes = self._writes.popleft()
                return job
            self._busy = False
            return None

    def fetched(self, read: Read, *, match: bool) -> bool:
        """A file has been read; whether anybody still wants to know. The last of a read ends it, and so does a miss."""
        with self._changed:
            if read.key not in self._reads:
                return False
            if not match or not read.left:
                del self._reads[read.key]
            return True

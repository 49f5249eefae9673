"""The queue of the disk tier: reads first, because a sequence waits for each; then the rest; writes last."""

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
    """Jobs from the step loop, which never waits here, to the tier's thread, which does one at a time.

    One lock guards everything in here; it is held for no longer than a few operations of dictionaries.
    """

    def __init__(self, pending_limit_bytes: int) -> None:
        self.writes_dropped = 0
        self._pending_limit_bytes = pending_limit_bytes
        self.pending_bytes = 0  # read by other threads without the lock, because an int is read whole
        self._reads: dict[int, deque[Path]] = {}
        self._others: deque[Job] = deque()
        self._writes: deque[_Write] = deque()
        self._busy = False
        self._writing_bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    # For the step loop.

    def read(self, key: int, paths: Sequence[Path]) -> None:
        """Ask for ``paths``, in order; after ``cancel`` at most one more of them is read."""
        with self._changed:
            self._reads[key] = deque(paths)
            self._changed.notify_all()

    def cancel(self, key: int) -> None:
        """Forget the rest of the read under ``key``."""
        with self._changed:
            self._reads.pop(key, None)

    def put(self, job: Job, *, first: bool = False) -> None:
        """Ask for a job that neither reads nor writes a segment, before the others if ``first``."""
        with self._changed:
            if first:
                self._others.appendleft(job)
            else:
                self._others.append(job)
            self._changed.notify_all()

    def write(self, job: Job, identity: str, nbytes: int) -> bool:
        """Ask for a write of ``nbytes``; return False, and drop it, if too many bytes wait already."""
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
        """Wait until everything is done."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._reads or self._others or self._writes or self._busy))

    def close(self) -> None:
        """Let ``next`` answer None once the jobs that wait are done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # For the thread.

    def next(self) -> Read | Job | None:
        """Wait for a job and take it; None once the queue is closed and empty.

        The job before is done, and nothing of it is in memory any more.
        """
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
        """Note that a file has been read, and return whether its read is still wanted; a miss ends it."""
        with self._changed:
            if read.key not in self._reads:
                return False
            if not match or not read.left:
                del self._reads[read.key]
            return True

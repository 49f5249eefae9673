"""The disk tier of the prefix cache, as the step loop knows it: nothing here waits for a disk.

One thread does it all, and it holds nothing that a death may not take: what was written is there under its name or not
at all, and what was to be written is computed again.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..segment import Segment
from .events import DiskEvent, Figures
from .files import exported, imported
from .queue import Queue, Read
from .store import DiskFailed
from .worker import Worker

# What waits to be written is memory that the cache in RAM has perhaps given up already.
PENDING_LIMIT_BYTES = 512 << 20

log = logging.getLogger(__name__)


class DiskTier:
    """Its methods return at once; results come by ``post``, which the tier's thread calls with one after the other.

    Without a ``directory`` it only exports and imports. When the disk fails, it says so once (``Failed``), drops what
    was to be written, and goes on to answer: nothing is there.
    """

    def __init__(
        self,
        directory: Path | None,
        limit_bytes: int,
        post: Callable[[DiskEvent], None],
        pending_limit_bytes: int = PENDING_LIMIT_BYTES,
    ) -> None:
        """Starts the thread; ``limit_bytes`` is for all that is in ``directory``, of this process and of others."""
        self._queue = Queue(pending_limit_bytes)
        self._worker = Worker(directory, limit_bytes, self._queue, post)
        self._post = post
        self._queue.put(self._worker.open)
        self._thread = threading.Thread(target=self._run, name="disk-tier", daemon=True)
        self._thread.start()

    def scan(self, identity: str, *, afresh: bool = False) -> None:
        """Find files of ``identity`` that were not told of before, or all, ``afresh``: ``Scanned`` until it is done."""
        self._queue.put(partial(self._worker.scan, identity, afresh=afresh))

    def write(self, identity: str, segment: Segment, tokens: array[int], before: Sequence[Path] = ()) -> bool:
        """Keep ``segment`` of a prompt that begins with ``tokens``, behind the files ``before`` it: ``Written``.

        Its arrays are evaluated. False if it is dropped: too much waits already, or there is no disk. A write of more
        bytes than the limit comes to nothing, and so does one that waits when its identity is cleared.
        """
        if self._worker.figures.state != "on":
            return False
        prompt = tokens[: segment.stop]
        job = partial(self._worker.write, identity, segment, prompt, tuple(before))
        return self._queue.write(job, identity, segment.nbytes + len(prompt) * prompt.itemsize)

    def read(self, key: int, paths: Sequence[Path]) -> None:
        """Read ``paths``, of which there is at least one, in order: ``Fetched`` for each, up to the first miss."""
        if not paths:
            raise ValueError("nothing to read")
        self._queue.read(key, paths)

    def cancel(self, key: int) -> None:
        """Nothing more comes of a read, but for what is on its way; an unknown key is none's."""
        self._queue.cancel(key)

    def touch(self, paths: Sequence[Path]) -> None:
        """The files of a chain are used now, all equally."""
        self._queue.put(partial(self._worker.touch, tuple(paths)))

    def clear(self, key: int, identity: str | None) -> None:
        """Delete everything of ``identity``, or of all, that was written or is to be written until now: ``Cleared``."""
        self._queue.drop_writes(identity)
        self._queue.put(partial(self._worker.clear, key, identity))

    def export(self, key: int, path: Path, identity: str, segment: Segment, tokens: array[int]) -> None:
        """Let ``path`` be ``segment``, which begins with the first of ``tokens``: ``Exported``."""
        prompt = tokens[: segment.stop]
        self._queue.put(lambda: self._post(exported(key, path, identity, segment, prompt)))

    def import_(self, key: int, path: Path, identity: str, limit_bytes: float) -> None:
        """Read what ``export`` wrote, if it has at most ``limit_bytes``: ``Imported``."""
        self._queue.put(lambda: self._post(imported(key, path, identity, limit_bytes)))

    @property
    def figures(self) -> Figures:
        """As they were after the last job; from any thread."""
        figures = self._worker.figures
        counters = {**figures.counters, "writes_dropped": self._queue.writes_dropped}
        return figures._replace(counters=counters, pending_bytes=self._queue.pending_bytes)

    def drain(self) -> None:
        """Wait until all that was asked for is done."""
        self._queue.wait()

    def close(self) -> None:
        """Wait until all that was asked for is done, and for the thread."""
        self._queue.close()
        self._thread.join()

    def _run(self) -> None:
        while self._step():
            pass

    def _step(self) -> bool:
        """One job. What it held is let go of before the next is waited for."""
        job = self._queue.next()
        if job is None:
            return False
        try:
            if isinstance(job, Read):
                self._worker.read(job)
            else:
                job()
        except DiskFailed as failed:
            self._worker.fail(str(failed))
        except Exception as error:  # a bug; the models go on without a disk
            log.exception("the disk tier of the prefix cache")
            self._worker.fail(f"{type(error).__name__}: {error}")
        self._worker.settle()
        return True

"""The disk tier of the prefix cache, as the step loop calls it: no call here waits for a disk.

One thread does all the work, and may die at any time: a file is there under its name or not at all, and segments that
were not written yet are computed again.
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

# Segments that wait to be written take memory, even where the cache in RAM has evicted them.
PENDING_LIMIT_BYTES = 512 << 20

log = logging.getLogger(__name__)


class DiskTier:
    """The files of one directory; methods return at once, and the tier's thread calls ``post`` with the results.

    Without a ``directory`` it only exports and imports. When the disk fails, it says so once (``Failed``), drops the
    writes that wait, and answers from then on that there is nothing.
    """

    def __init__(
        self,
        directory: Path | None,
        limit_bytes: int,
        post: Callable[[DiskEvent], None],
        pending_limit_bytes: int = PENDING_LIMIT_BYTES,
    ) -> None:
        """Start the thread; ``limit_bytes`` is for all files in ``directory``, of this process and of others."""
        self._queue = Queue(pending_limit_bytes)
        self._worker = Worker(directory, limit_bytes, self._queue, post)
        self._post = post
        self._queue.put(self._worker.open)
        self._thread = threading.Thread(target=self._run, name="disk-tier", daemon=True)
        self._thread.start()

    def scan(self, identity: str, *, afresh: bool = False) -> None:
        """Find files of ``identity``: those not told before, or all, ``afresh``. Posts ``Scanned`` until it is done."""
        self._queue.put(partial(self._worker.scan, identity, afresh=afresh))

    def write(self, identity: str, segment: Segment, tokens: array[int], before: Sequence[Path] = ()) -> bool:
        """Keep ``segment`` of a prompt that begins with ``tokens``, behind the files ``before`` it. Posts ``Written``.

        Its arrays are evaluated. Returns False if it is dropped, because too much waits already or there is no disk. A
        write of more bytes than the limit comes to nothing, and so does one that waits when its identity is cleared.
        """
        if self._worker.figures.state != "on":
            return False
        prompt = tokens[: segment.stop]
        job = partial(self._worker.write, identity, segment, prompt, tuple(before))
        return self._queue.write(job, identity, segment.nbytes + len(prompt) * prompt.itemsize)

    def read(self, key: int, paths: Sequence[Path]) -> None:
        """Read ``paths``, at least one, in order. Posts ``Fetched`` for each, up to the first miss."""
        if not paths:
            raise ValueError("nothing to read")
        self._queue.read(key, paths)

    def cancel(self, key: int) -> None:
        """End a read; of its files only one that is being read is still told. An unknown ``key`` is no error."""
        self._queue.cancel(key)

    def touch(self, paths: Sequence[Path]) -> None:
        """Mark the files of a chain as used now."""
        self._queue.put(partial(self._worker.touch, tuple(paths)))

    def clear(self, key: int, identity: str | None) -> None:
        """Delete the files and waiting writes of ``identity``, or all, up to now. Posts ``Cleared``."""
        self._queue.drop_writes(identity)
        self._queue.put(partial(self._worker.clear, key, identity))

    def export(self, key: int, path: Path, identity: str, segment: Segment, tokens: array[int]) -> None:
        """Write ``segment``, which begins with the first of ``tokens``, to ``path``. Posts ``Exported``."""
        prompt = tokens[: segment.stop]
        self._queue.put(lambda: self._post(exported(key, path, identity, segment, prompt)))

    def import_(self, key: int, path: Path, identity: str, limit_bytes: float) -> None:
        """Read a file that ``export`` wrote, if it has at most ``limit_bytes``. Posts ``Imported``."""
        self._queue.put(lambda: self._post(imported(key, path, identity, limit_bytes)))

    @property
    def figures(self) -> Figures:
        """The figures as of the last job; may be read from any thread."""
        figures = self._worker.figures
        counters = {**figures.counters, "writes_dropped": self._queue.writes_dropped}
        return figures._replace(counters=counters, pending_bytes=self._queue.pending_bytes)

    def drain(self) -> None:
        """Wait until all jobs are done."""
        self._queue.wait()

    def close(self) -> None:
        """Wait until all jobs are done and the thread has ended."""
        self._queue.close()
        self._thread.join()

    def _run(self) -> None:
        while self._step():
            pass

    def _step(self) -> bool:
        """Do one job. Its memory is let go of before the next one is waited for."""
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

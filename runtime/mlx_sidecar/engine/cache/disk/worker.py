"""The work of the disk tier's thread: one job after the other, each with its events."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from ..segment import BLOCK, Segment
from .chains import Chains, entry
from .events import Cleared, Deleted, DiskEvent, Failed, Fetched, Figures, Scanned, Written
from .header import Header
from .names import Namer
from .queue import Queue, Read
from .store import COUNTERS, DiskFailed, DiskStore

# Headers of a scan that are read before a waiting read has its turn.
_SCAN_HEADERS = 64

log = logging.getLogger(__name__)


class Worker:
    """Does jobs, on the tier's thread only. After a failure it touches the disk no more, and everything is a miss."""

    def __init__(
        self, directory: Path | None, limit_bytes: int, queue: Queue, post: Callable[[DiskEvent], None]
    ) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._queue = queue
        self._post = post
        self._store: DiskStore | None = None
        self._chains: dict[str, Chains] = {}
        self._namer = Namer()
        self._state: Literal["off", "on", "failed"] = "on" if directory else "off"
        self._because = ""
        # Replaced as a whole, so that another thread reads the figures of one moment.
        self.figures = Figures(self._state, "", 0, 0, dict.fromkeys(COUNTERS, 0))

    def open(self) -> None:
        """Make the directory and survey it. Raises DiskFailed, as every job may."""
        if self._directory is not None:
            self._store = DiskStore(self._directory, self._limit_bytes)

    def read(self, read: Read) -> None:
        """Read one file, and post it if its read is still wanted."""
        segment = None
        try:
            segment = self._store.read(read.path) if self._store else None
        finally:
            match = segment is not None
            if self._queue.fetched(read, match=match):
                self._post(Fetched(read.key, read.path, segment, read.left if match else 0))

    def scan(self, identity: str, *, afresh: bool) -> None:
        """Begin a scan of ``identity``; the rest of it is done in jobs of its own."""
        if self._store is None:
            self._post(Scanned(identity, (), (), done=True))
            return
        if afresh:
            self._chains.pop(identity, None)
        try:
            gone, found = self._store.scan(identity, afresh=afresh)
        except DiskFailed:
            self._post(Scanned(identity, (), (), done=True))
            raise
        self._of(identity).drop(gone)
        if gone:
            self._post(Scanned(identity, (), gone, done=False))
        self._scan_on(identity, found)

    def _scan_on(self, identity: str, found: Iterator[tuple[Path, Header]]) -> None:
        done = True
        chains = self._of(identity)
        try:
            if self._store:
                headers = list(islice(found, _SCAN_HEADERS))
                for path, header in headers:
                    chains.add(path, header)
                done = len(headers) < _SCAN_HEADERS
        finally:
            self._tell(identity, chains, done=done)
        if not done:
            self._queue.put(partial(self._scan_on, identity, found), first=True)

    def _tell(self, identity: str, chains: Chains, *, done: bool) -> None:
        entries = chains.take()
        while following := chains.take():
            self._post(Scanned(identity, entries, (), done=False))
            entries = following
        if entries or done:
            self._post(Scanned(identity, entries, (), done=done))

    def write(self, identity: str, segment: Segment, tokens: array[int], before: Sequence[Path]) -> None:
        """Write ``segment`` of ``tokens``, unless the disk has failed meanwhile."""
        if self._store is None:  # failed since it was asked for
            return
        parent = self._namer.names(identity, tokens)[segment.start // BLOCK - 1] if segment.start else None
        written = self._store.write(identity, parent, segment, tokens[segment.start :], before)
        if written is not None:
            path, header = written
            chains = self._of(identity)
            chains.told(path)
            chains.add(path, header)
            self._post(Written(identity, entry(path, header, tokens)))

    def touch(self, paths: Sequence[Path]) -> None:
        """Mark the files of a chain as used now."""
        if self._store:
            self._store.touch(paths)

    def clear(self, key: int, identity: str | None) -> None:
        """Delete the files of ``identity``, or all, and post ``Cleared`` even where that fails."""
        freed, because = 0, "it failed"
        try:
            freed, because = (self._store.clear(identity) if self._store else 0), self._because
        except DiskFailed as failed:
            because = str(failed)
            raise
        finally:
            for known in [*self._chains] if identity is None else [identity]:
                self._chains.pop(known, None)
            self._post(Cleared(key, identity, freed, because))

    def settle(self) -> None:
        """After every job, post the files that were deleted, and renew the figures."""
        store = self._store
        if store is None:
            self.figures = self.figures._replace(state=self._state, because=self._because)
            return
        if store.deleted:
            deleted, store.deleted = tuple(store.deleted), []
            for chains in self._chains.values():
                chains.drop(deleted)
            self._post(Deleted(deleted))
        self.figures = Figures(
            self._state, self._because, store.quota.used_bytes, store.quota.files, dict(store.counters)
        )

    def fail(self, because: str) -> None:
        """Switch off for good."""
        log.warning("the disk tier of the prefix cache is off: %s", because)
        self.settle()
        self._store = None
        self._state, self._because = "failed", because
        self.settle()  # before it is told, because the figures are then looked at
        self._post(Failed(because))

    def _of(self, identity: str) -> Chains:
        return self._chains.setdefault(identity, Chains())

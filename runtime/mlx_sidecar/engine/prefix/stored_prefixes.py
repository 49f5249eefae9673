"""Blocks that a prompt begins with are read from disk before it is admitted."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from math import inf

from ..cache.disk.events import Cleared, DiskEvent, Exported, Imported
from ..cache.prefix_cache import PrefixCache
from ..cache.prefixes import Prefixes
from ..core.preparer import Preparer
from ..core.sequence import Sequence
from ..resident_models import ResidentModels
from .cache_operations import CacheOperations

log = logging.getLogger(__name__)

# A disk that fails says so; one that hangs (a network's) says nothing. No sequence waits longer for it than this, from
# its arrival, and none at all while it hangs: on a disk that works, most prompts are there in less than a second.
DISK_PATIENCE_S = 10.0


class StoredPrefixes(Preparer):
    """Lets a sequence wait until its model's files on disk are known, and then until its blocks are in memory.

    All events of the disk tier come here; its answers to requests are handed to ``operations``.
    """

    name = "stored prefix"

    def __init__(self, models: ResidentModels, prefix_cache: PrefixCache, operations: CacheOperations) -> None:
        self._models = models
        self._prefix_cache = prefix_cache
        self._disk = prefix_cache.disk
        self._operations = operations
        self._waiting: dict[int, Sequence] = {}  # in order of arrival: either unscanned or reading
        # By model and adapter: their files are not known yet.
        self._unscanned: dict[tuple[str, str | None], dict[int, Sequence]] = {}
        self._reading: dict[int, Sequence] = {}
        self._there: dict[int, Sequence] = {}  # their wait is over

    def arrived(self, sequence: Sequence, now: float) -> bool:
        """Ask the disk for the blocks that ``sequence`` begins with; return whether any are on their way."""
        prefixes = self._prefixes_of(sequence)
        if prefixes is None or not sequence.asked.cacheable:
            return False
        if not self._disk.ready(prefixes):
            self._unscanned.setdefault(_content(sequence), {})[sequence.id] = sequence
        elif not self._reads(sequence, prefixes):
            return False
        self._waiting[sequence.id] = sequence
        return True

    def told(self, event: object, now: float) -> None:
        """Take in ``event`` if it is the disk tier's."""
        if isinstance(event, Cleared | Exported | Imported):
            self._operations.told(event)
        elif isinstance(event, DiskEvent) and (read := self._disk.taken_in(event)) is not None:
            key, numbers = read
            if self._operations.knows(key):
                self._operations.fetched(key)
            elif (sequence := self._reading.pop(key, None)) is not None:
                sequence.prefix.fetched = numbers
                self._release(sequence)

    def ready(self, now: float) -> Iterable[Sequence]:
        """Return the sequences whose blocks are there, or will not come."""
        self._prefix_cache.write()
        if self.next_event_s() <= now:
            log.warning("the disk has not answered for %s s: prompts are computed without it", DISK_PATIENCE_S)
            self._give_up_disk()
        for content in list(self._unscanned):
            self._scanned(content)
        self._operations.serve()
        there, self._there = self._there, {}
        return there.values()

    def left(self, sequence: Sequence) -> None:
        """Cancel the read for ``sequence``, which has ended."""
        self._there.pop(sequence.id, None)
        if self._waiting.pop(sequence.id, None) is None:
            return
        if self._reading.pop(sequence.id, None) is not None:
            self._disk.cancel(sequence.id)
            return
        unscanned = self._unscanned[_content(sequence)]
        del unscanned[sequence.id]
        if not unscanned:
            del self._unscanned[_content(sequence)]

    def next_event_s(self) -> float:
        """Return when the wait for the disk is given up, infinite if no sequence waits."""
        longest = next(iter(self._waiting.values()), None)
        return inf if longest is None else longest.asked.arrived_s + DISK_PATIENCE_S

    def _reads(self, sequence: Sequence, prefixes: Prefixes) -> bool:
        """Have the disk read its blocks of ``sequence``; return whether it has any of use."""
        tokens = sequence.history()
        if sequence.asked.explain:
            sequence.prefix.nearest = prefixes.nearest(tokens)
        if self._disk.read(sequence.id, prefixes, tokens):
            self._reading[sequence.id] = sequence
            return True
        self._disk.touch(prefixes, tokens)
        return False

    def _prefixes_of(self, sequence: Sequence) -> Prefixes | None:
        return self._models.resident(sequence.model).loaded.prefixes_of(sequence)

    def _scanned(self, content: tuple[str, str | None]) -> None:
        """Begin the reads for sequences of a model and adapter that waited for the scan of the disk, if it is over."""
        prefixes = self._prefixes_of(next(iter(self._unscanned[content].values())))
        assert prefixes is not None
        if self._disk.ready(prefixes):
            for sequence in self._unscanned.pop(content).values():
                if not self._reads(sequence, prefixes):
                    self._release(sequence)

    def _give_up_disk(self) -> None:
        self._disk.hangs = True
        reading, self._reading = self._reading, {}
        for key, sequence in reading.items():
            self._disk.cancel(key)
            self._release(sequence)

    def _release(self, sequence: Sequence) -> None:
        del self._waiting[sequence.id]
        self._there[sequence.id] = sequence


def _content(sequence: Sequence) -> tuple[str, str | None]:
    """The facts besides its tokens that decide on the blocks of ``sequence``."""
    return sequence.model, sequence.asked.adapter

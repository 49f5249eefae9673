"""What the loop asks of the prefix cache: who waits for what is on its way there, and what hosts want to know of it."""

from __future__ import annotations

import logging
from math import inf

from mlx_sidecar_protocol.errors import OutOfMemory, UnsupportedParameter

from ...link.messages import ToFront
from ..cache.disk.events import Cleared, DiskEvent, Exported, Imported
from ..cache.prefix_cache import PrefixCache
from ..core.sequence import Sequence
from ..resident_models import ResidentModels
from ..scheduling.scheduler import Scheduler
from .cache_operations import CacheOperations
from .prefix_coalescing import PrefixCoalescing

log = logging.getLogger(__name__)

# A disk that fails says so; one that hangs (a network's) says nothing. Nobody waits longer for it than this, from its
# arrival, and nobody at all while it hangs: on a disk that works, most prompts are there in less than a second.
DISK_PATIENCE_S = 10.0


class PrefixWaits:
    """Sets sequences aside while what they begin with is computed by others or read from disk."""

    def __init__(self, scheduler: Scheduler, models: ResidentModels, prefix_cache: PrefixCache | None) -> None:
        self._scheduler = scheduler
        self._models = models
        self._prefix_cache = prefix_cache
        self.operations = CacheOperations(models, prefix_cache)
        self._coalescing = PrefixCoalescing(scheduler, models)
        self._unscanned: list[Sequence] = []  # wait until it is known what the disk has of their model
        self._reading: dict[int, Sequence] = {}

    def check(self, sequence: Sequence) -> None:
        """Raise what is against pinning the prompt of ``sequence``, if that is asked: ``UnsupportedParameter`` for a
        model of which nothing can be cached, ``OutOfMemory`` where there is no room for another pin."""
        if sequence.prefill is None or not sequence.prefill.pin:
            return
        loaded = self._models.resident(sequence.model).loaded
        if self._prefix_cache is None or loaded.prefixes is None:
            raise UnsupportedParameter("model", loaded.uncacheable)
        store = self._prefix_cache.store
        need_bytes, have_bytes = sequence.cost.all_bytes(len(sequence.tokens)), store.limit_bytes - store.pinned_bytes
        if need_bytes > have_bytes and not loaded.prefixes.has_pin(sequence.history()):
            raise OutOfMemory(need_bytes=need_bytes, have_bytes=have_bytes)

    def arrived(self, sequence: Sequence, now: float) -> None:
        """``sequence`` is in the queue."""
        prefixes = self._models.resident(sequence.model).loaded.prefixes
        if self._prefix_cache is None or prefixes is None:
            return
        if not self._prefix_cache.disk.ready(prefixes):
            self._unscanned.append(sequence)
            self._hold(sequence, now)
            return
        tokens = sequence.history()
        if sequence.explain:
            sequence.nearest = prefixes.nearest(tokens)
        if self._prefix_cache.disk.read(sequence.id, prefixes, tokens):
            self._reading[sequence.id] = sequence
            self._hold(sequence, now)
        else:
            self._prefix_cache.disk.touch(prefixes, tokens)

    def told(self, result: DiskEvent, now: float) -> list[ToFront]:
        """What the disk tier has to say; what the front is to hear of it."""
        assert self._prefix_cache is not None
        if isinstance(result, Cleared | Exported | Imported):
            return self.operations.told(result)
        read = self._prefix_cache.disk.taken_in(result)
        if read is None:
            return []
        key, numbers = read
        if self.operations.knows(key):
            return self.operations.fetched(key)
        if (sequence := self._reading.pop(key, None)) is not None and self._waits(sequence):
            sequence.fetched = numbers
            self._release(sequence, now)
        return []

    def holds_back(self, candidate: Sequence, now: float) -> bool:
        """Whether ``candidate``, for whom there is a place, is set aside instead: it will have less to compute soon."""
        if candidate.parked or not self._coalescing.waits(candidate):
            return False
        if self._prefix_cache is not None:
            self._prefix_cache.store.counters["shared_waits"] += 1
        self._hold(candidate, now)
        return True

    def serve(self, now: float) -> list[ToFront]:
        """Let those go on who have waited long enough; what the front is to hear of it."""
        if self._prefix_cache is None:
            return []
        self._prefix_cache.write()
        for sequence in self._coalescing.served():
            self._release(sequence, now)
        if self.next_event_s() <= now:
            log.warning("the disk has not answered for %s s: prompts are computed without it", DISK_PATIENCE_S)
            self._prefix_cache.disk.hangs = True
        for key, sequence in list(self._reading.items()):
            waits = self._waits(sequence)  # or it has ended meanwhile
            if waits and not self._prefix_cache.disk.hangs:
                continue
            del self._reading[key]
            self._prefix_cache.disk.cancel(key)
            if waits:
                self._release(sequence, now)
        waiting, self._unscanned = self._unscanned, []
        for sequence in filter(self._waits, waiting):
            prefixes = self._models.resident(sequence.model).loaded.prefixes
            if prefixes is not None and not self._prefix_cache.disk.ready(prefixes):
                self._unscanned.append(sequence)
                continue
            self._release(sequence, now)
            self.arrived(sequence, now)
        return self.operations.serve()

    def _waits(self, sequence: Sequence) -> bool:
        return self._scheduler.find(sequence.id) is sequence

    def next_event_s(self) -> float:
        """When the disk will have been waited for long enough, infinite if nobody waits."""
        waiting = [*self._reading.values(), *self._unscanned]
        return min((sequence.arrived_s for sequence in waiting), default=inf) + DISK_PATIENCE_S

    def _hold(self, sequence: Sequence, now: float) -> None:
        self._scheduler.pause(sequence, now, "blocks")

    def _release(self, sequence: Sequence, now: float) -> None:
        self._scheduler.resume(sequence, now, "blocks")

"""What the loop asks of the prefix cache: who waits for what is on its way there, and what hosts want to know of it."""

from __future__ import annotations

from mlx_sidecar_protocol.errors import OutOfMemory, UnsupportedParameter

from ..cache.caching import Caching
from ..models.registry import Registry
from .scheduler import Scheduler
from .sequence import Sequence
from .sharing import Sharing


class Reuse:
    """Sets sequences aside while what they begin with is computed by others or read from disk."""

    def __init__(self, scheduler: Scheduler, models: Registry, caching: Caching | None) -> None:
        self._scheduler = scheduler
        self._models = models
        self._caching = caching
        self._sharing = Sharing(scheduler, models)

    def check(self, sequence: Sequence) -> None:
        """Raise what is against pinning the prompt of ``sequence``, if that is asked: ``UnsupportedParameter`` for a
        model of which nothing can be cached, ``OutOfMemory`` where there is no room for another pin."""
        if not sequence.warm:
            return
        loaded = self._models.resident(sequence.model).loaded
        if self._caching is None or loaded.prefixes is None:
            raise UnsupportedParameter("model", loaded.uncacheable or "the cache is switched off")
        store = self._caching.store
        need_bytes, have_bytes = sequence.cost.all_bytes(len(sequence.tokens)), store.limit_bytes - store.pinned_bytes
        if need_bytes > have_bytes and loaded.prefixes.pinned(sequence.history()) < len(sequence.tokens):
            raise OutOfMemory(need_bytes=need_bytes, have_bytes=have_bytes)

    def arrived(self, sequence: Sequence) -> None:
        """``sequence`` is in the queue."""
        prefixes = self._models.resident(sequence.model).loaded.prefixes
        if sequence.explain and prefixes is not None:
            sequence.nearest = prefixes.nearest(sequence.history())

    def holds_back(self, candidate: Sequence, now: float) -> bool:
        """Whether ``candidate``, for whom there is a place, is set aside instead: it will have less to compute soon."""
        if candidate.parked or not self._sharing.waits(candidate):
            return False
        if self._caching is not None:
            self._caching.store.counters["shared_waits"] += 1
        self._hold(candidate, now)
        return True

    def serve(self, now: float) -> None:
        """Let those go on who have waited long enough."""
        for sequence in self._sharing.served():
            self._let_go(sequence, now)

    def flow(self, sequence: Sequence, windowless: bool, now: float) -> None:
        """The host of ``sequence`` has no window left, or has one again."""
        sequence.windowless = windowless
        self._settle(sequence, now)

    def _hold(self, sequence: Sequence, now: float) -> None:
        sequence.held = True
        self._settle(sequence, now)

    def _let_go(self, sequence: Sequence, now: float) -> None:
        sequence.held = False
        self._settle(sequence, now)

    def _settle(self, sequence: Sequence, now: float) -> None:
        if sequence.windowless or sequence.held:
            self._scheduler.pause(sequence, now)
        else:
            self._scheduler.resume(sequence, now)

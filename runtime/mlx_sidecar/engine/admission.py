"""Who gets a place and memory for it, and who gives his up. At the edge of memory: what is merely kept goes first, then

idle models, then the caches of less urgent sequences, which wait and are computed again; only what could never fit is
refused.
"""

from __future__ import annotations

import logging

from mlx_sidecar_protocol.errors import OutOfMemory

from ..models.registry import Registry
from .accounts import Accounts
from .scheduler import Scheduler
from .sequence import Sequence

log = logging.getLogger(__name__)


class Admission:
    """Moves sequences between the queue and the batches, within the memory that the registry counts."""

    def __init__(self, scheduler: Scheduler, models: Registry, accounts: Accounts) -> None:
        self._scheduler = scheduler
        self._models = models
        self._accounts = accounts

    def check(self, sequence: Sequence) -> None:
        """Raise ``OutOfMemory``, with the numbers, if ``sequence`` could not start even if it were alone."""
        most = self._models.most_bytes(sequence.model)
        if sequence.need_bytes > most:
            raise OutOfMemory(need_bytes=sequence.need_bytes, have_bytes=most)

    def admit(self, now: float) -> Sequence | None:
        """Give places to those who wait, the most urgent first, until there is none left or no memory for the next:

        nobody overtakes it for want of memory, or a long prompt would wait for ever. Except where nobody runs: what it
        lacks is then held by models that others wait for, who go first, or by models that stay; if nobody waits for
        others, it is returned, for it would wait for ever.
        """
        blocked: dict[str, Sequence] = {}
        while (candidate := self._scheduler.candidate(now, blocked)) is not None:
            if self._make_room(candidate, now):
                self._give_place(candidate, now)
            elif self._scheduler.running:
                return None
            else:
                blocked[candidate.model] = candidate
        stuck = not (self._scheduler.running or self._models.loading)
        return next(iter(blocked.values()), None) if stuck else None

    def keep_to_budget(self, now: float) -> Sequence | None:
        """Sequences grow. Where there is no more room, the least urgent one gives its cache up and waits; if it is the

        only one that holds any, it is returned: it has outgrown the machine.
        """
        while self._models.free_bytes < 0:
            if self._spare(0):
                continue
            last = self._scheduler.youngest(now)
            if last is None:
                return None
            if self._scheduler.running + self._scheduler.parked == 1:
                # Until a load is over it takes more than it is given: then its model goes, if it is not wanted.
                return None if self._models.loading else last
            self._drop(last, now)
        return None

    def _give_place(self, candidate: Sequence, now: float) -> None:
        self._make_place(candidate, now)
        parked, first = candidate.parked, not candidate.admitted_s
        self._scheduler.admit(candidate, now)
        if not parked:
            self._models.resident(candidate.model).loaded.batch.open(candidate)
        if first:
            self._accounts.opened(candidate)

    def _make_place(self, candidate: Sequence, now: float) -> None:
        victim = self._scheduler.victim(candidate, now, for_memory=False)
        if victim is not None:
            self._accounts.metrics.count("preemptions")
            self._scheduler.park(victim, now, keep=True)

    def _make_room(self, candidate: Sequence, now: float) -> bool:
        # One that was parked holds its cache, and its next room is reserved with it.
        need_bytes = 0 if candidate.parked else candidate.need_bytes
        while self._models.free_bytes < need_bytes:
            if self._spare(need_bytes):
                continue
            lacking_bytes = need_bytes - self._scheduler.yielding_bytes(candidate, now)
            if self._models.free_bytes < lacking_bytes and not self._spare(lacking_bytes):
                return False  # nobody loses a cache in vain
            victim = self._scheduler.victim(candidate, now, for_memory=True)
            assert victim is not None
            self._drop(victim, now)
        return True

    def _spare(self, need_bytes: int) -> bool:
        """Give back what nobody uses now, as far as ``need_bytes`` ask for it; False if that is not enough."""
        try:
            self._models.make_room(need_bytes)
        except OutOfMemory:
            return False
        return True

    def _drop(self, victim: Sequence, now: float) -> None:
        log.info("sequence %d gives its cache up and waits", victim.id)
        self._accounts.metrics.count("preemptions")
        self._models.resident(victim.model).loaded.batch.close(victim, keep=False)
        self._scheduler.park(victim, now, keep=False)

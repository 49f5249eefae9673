"""Admission gives waiting sequences a place and memory, and takes both from less urgent ones.

At the edge of memory, blocks that are merely kept go first, then idle models, then the caches of less urgent sequences,
which wait and are computed again; only a sequence that could never fit is refused. An allocation that fails takes the
same way, because then the edge is where the device says it is.
"""

from __future__ import annotations

import logging

from mlx_sidecar_protocol.errors import OutOfMemory

from .core.batch import StepFailed
from .core.instrumentation import Instrumentation
from .core.sequence import Sequence
from .preparation import Preparation
from .resident_models import ResidentModels
from .scheduling.scheduler import Scheduler

log = logging.getLogger(__name__)

# An allocation may lack a few bytes of many: after each that fails, sequences may hold so much less together at least.
LEAST_LESS = 0.25


class Admission:
    """Moves sequences between the queue and the batches, within the memory that the registry counts."""

    def __init__(
        self, scheduler: Scheduler, models: ResidentModels, instrumentation: Instrumentation, preparation: Preparation
    ) -> None:
        self._scheduler = scheduler
        self._models = models
        self._instrumentation = instrumentation
        self._preparation = preparation

    def check(self, sequence: Sequence) -> None:
        """Raise ``OutOfMemory``, with the numbers, if ``sequence`` could not start even if it were alone."""
        most = self._models.most_bytes(sequence.model)
        if sequence.need_bytes > most:
            self._instrumentation.metrics.count("refused_for_memory")
            raise OutOfMemory(need_bytes=sequence.need_bytes, have_bytes=most)

    def admit(self, now: float) -> Sequence | None:
        """Give places to sequences that wait, the most urgent first, until no place is left or no memory for the next.

        No sequence overtakes that one for want of memory, because a long prompt would wait for ever. If nothing runs,
        models hold the memory that it lacks. Sequences that wait for other models are admitted first. If there are
        none, the blocked sequence is returned, because it would wait for ever.
        """
        blocked: dict[str, Sequence] = {}
        while (candidate := self._scheduler.candidate(now, blocked)) is not None:
            if self._preparation.holds_back(candidate, now):
                continue
            if self._make_room(candidate, now):
                self._give_place(candidate, now)
            elif self._scheduler.running:
                return None
            else:
                blocked[candidate.model] = candidate
        stuck = not (self._scheduler.running or self._models.loading)
        return next(iter(blocked.values()), None) if stuck else None

    def keep_to_budget(self, now: float) -> Sequence | None:
        """Take caches away until sequences, which grow, fit again: the least urgent gives its cache up and waits.

        The only sequence that holds a cache is returned instead, because it has outgrown the machine.
        """
        while not self._spare(0, alone=self._scheduler.holders <= 1):
            last = self._scheduler.youngest(now)
            if last is None:
                return None
            if self._scheduler.holders == 1:
                # Until a load is over it takes more than it is given. Its model goes then, if no sequence wants it.
                return None if self._models.loading else last
            self._park(last, now)
        return None

    def allocation_failed(self, model: str, failure: StepFailed, now: float) -> Sequence | None:
        """The device did not have the memory that a step of ``model`` wanted.

        Kept memory is given back, the sequences of the batch wait and are computed again, and less is held at once for
        a while. The only sequence that holds memory gets that of idle models; if there are none, it is returned: it
        cannot run on this machine.
        """
        self._instrumentation.metrics.count("allocation_failures")
        lost, wanted_bytes = self._scheduler.holders_of(model), int(failure.fault.details["need_bytes"])
        alone = self._scheduler.holders <= 1
        held_bytes = self._models.held_bytes + failure.released_bytes
        least_bytes = int(LEAST_LESS * self._scheduler.reserved_bytes) + 1
        freed_bytes = failure.released_bytes + self._models.release_kept()
        if alone:
            freed_bytes = freed_bytes or self._models.release_idle(wanted_bytes)
        else:
            self._models.backoff.lower(held_bytes, max(wanted_bytes, least_bytes), now)
        self._models.reclaim()
        if alone and lost and not freed_bytes:
            return lost[0]
        for sequence in lost:
            self._park(sequence, now)
        return None

    def _give_place(self, candidate: Sequence, now: float) -> None:
        self._make_place(candidate, now)
        parked, first = candidate.parked, not candidate.standing.admitted_s
        candidate.standing.short = False
        self._scheduler.admit(candidate, now)
        if not parked:
            self._models.resident(candidate.model).loaded.batch.open(candidate)
        if first:
            self._instrumentation.opened(candidate)

    def _make_place(self, candidate: Sequence, now: float) -> None:
        victim = self._scheduler.victim(candidate, now, for_memory=False)
        if victim is not None:
            self._instrumentation.metrics.count("preemptions")
            self._scheduler.park(victim, now, keep=True)

    def _make_room(self, candidate: Sequence, now: float) -> bool:
        # A parked sequence holds its cache, and its next room is reserved with it.
        need_bytes = 0 if candidate.parked else candidate.need_bytes
        while True:
            others = self._scheduler.holders - candidate.parked
            if self._spare(need_bytes, alone=not others):
                return True
            yields = self._scheduler.yields(candidate, now)
            if not self._spare(need_bytes - yields.nbytes, alone=yields.sequences == others):
                self._wait(candidate)
                return False  # no cache is lost in vain
            victim = self._scheduler.victim(candidate, now, for_memory=True)
            assert victim is not None
            self._park(victim, now)

    def _wait(self, candidate: Sequence) -> None:
        if not candidate.standing.short:
            candidate.standing.short = True
            self._instrumentation.metrics.count("waits_for_memory")

    def _spare(self, need_bytes: int, *, alone: bool) -> bool:
        """Give back memory that is not in use, as far as ``need_bytes`` ask for it; False if that is not enough."""
        if self._models.room_bytes(alone=alone) >= need_bytes:
            return True
        try:
            self._models.make_room(need_bytes, alone=alone)
        except OutOfMemory:
            return False
        return True

    def _park(self, victim: Sequence, now: float) -> None:
        log.info("sequence %d gives its cache up and waits", victim.id)
        self._instrumentation.metrics.count("preemptions")
        self._instrumentation.metrics.count("parked_for_memory")
        self._models.resident(victim.model).loaded.batch.close(victim, keep=False)
        self._scheduler.park(victim, now, keep=False)

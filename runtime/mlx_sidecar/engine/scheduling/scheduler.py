"""The scheduler decides which sequence runs next and plans the next step. Pure: no clock, only records and numbers.

A sequence is in one of four states. It waits in the queue of its class; it runs, which takes one of the places of its
model; preempted or paused it is parked, with its cache kept; or its cache was dropped, and it waits again. Then:

- The most urgent is admitted first, and waiting makes urgent, so none starves (``QueueEntry.urgency``).
- A sequence that finds no place or no memory may take that of a lower class. Only the class gives this right, never the
  waiting, so two of a class do not take turns at it. A sequence that was admitted for its waiting keeps its place for a
  while as if it were of the class it overtook. So a preempted one gets on, by AGEING_S and a token each time
  (``QueueEntry.leave``).
- No sequence overtakes one that lacks memory, because small requests would keep a large one waiting for ever.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Container, Hashable, Iterable
from dataclasses import dataclass
from math import inf

from mlx_sidecar_protocol.errors import Overloaded

from ...link.engine_config import WAITING_LIMIT
from ..core.batch import Work
from ..core.memory_ledger import SEQUENCES, MemoryLedger
from ..core.sequence import WINDOW, Sequence
from .fair_queue import FairQueue, Lane
from .holders import Holders, Yield, least
from .priority_queue import PriorityQueue, QueueEntry
from .step_planner import StepPlanner


@dataclass(frozen=True)
class Limits:
    """At most ``waiting`` sequences wait, of all models together, and at most ``running`` ones run of each model."""

    waiting: int = WAITING_LIMIT  # a refused host knows when to come again
    running: int = 32  # the largest batch that the benchmarks compare


class Scheduler:
    """The books of all sequences, and the decisions over them. The caller opens and closes their caches.

    A sequence is in these books from ``enqueue`` to ``retire``. For one that is not, the methods raise ``KeyError``.
    """

    def __init__(self, limits: Limits, ledger: MemoryLedger) -> None:
        """Enter the bytes that sequences hold in ``ledger``."""
        self._limits = limits
        self._ledger = ledger
        self._entries: dict[int, QueueEntry] = {}
        self._models: dict[str, dict[int, QueueEntry]] = {}  # the same, by model
        self._holders = Holders(ledger)
        self._queue = PriorityQueue()  # those that want a place: neither running nor paused
        self._drafts: Counter[str] = Counter()  # sequences by the draft model that makes proposals for them
        self._deadlines: list[Sequence] = []
        self._fair_queue = FairQueue()
        self._planner = StepPlanner()
        self._last_end_s: float | None = None
        self._between_ends_s = 1.0

    # The books.

    @property
    def waiting(self) -> int:
        """Sequences that hold no cache."""
        return len(self._entries) - len(self._holders)

    @property
    def running(self) -> int:
        return sum(map(len, self._holders.running.values()))

    @property
    def parked(self) -> int:
        """Sequences that hold a cache and have no place: preempted, paused, or resumed and waiting for a place."""
        return len(self._holders.parked)

    @property
    def reserved_bytes(self) -> int:
        """Bytes that running and parked sequences hold, with the room they are about to take."""
        return self._ledger.bytes_of(SEQUENCES)

    @property
    def holders(self) -> int:
        """Sequences that hold a cache."""
        return len(self._holders)

    def holders_of(self, model: str) -> list[Sequence]:
        """Return the sequences of ``model`` that hold a cache: first those that run, in order of admission."""
        return self._holders.of_model(model)

    def running_on(self, model: str) -> list[Sequence]:
        """Return the sequences of ``model`` that have a place, in order of admission."""
        return [entry.sequence for entry in self._holders.running.get(model, {}).values()]

    def runs(self, sequence: Sequence) -> bool:
        """Whether ``sequence`` has a place."""
        return self._holders.runs(sequence)

    def streams(self, model: str) -> int:
        """Return how many sequences need ``model``: its own, and those for which it makes proposals."""
        return len(self._models.get(model, ())) + self._drafts[model]

    def of_model(self, model: str) -> list[Sequence]:
        return [entry.sequence for entry in self._models.get(model, {}).values()]

    def find(self, id_: int) -> Sequence | None:
        entry = self._entries.get(id_)
        return None if entry is None else entry.sequence

    # A sequence's way.

    def enqueue(self, sequence: Sequence, now: float) -> None:
        """Take ``sequence`` into the queue. Raises ``Overloaded``, but not for one that was taken in before."""
        if self.waiting >= self._limits.waiting and not sequence.asked.again:
            raise Overloaded(queue=self.waiting, limit=self._limits.waiting, retry_after_s=self._between_ends_s)
        entry = QueueEntry(sequence, now)
        self._entries[sequence.id] = self._models.setdefault(sequence.model, {})[sequence.id] = entry
        if not sequence.paused:
            self._queue.join(entry)
        insort(self._deadlines, sequence, key=_deadline)
        if sequence.draft is not None:
            self._drafts[sequence.draft] += 1

    def candidate(self, now: float, without: Container[str] = ()) -> Sequence | None:
        """Return the most urgent sequence for which there is a place, or one that can be taken from a ``victim``.

        Models in ``without`` are left out. Whether memory suffices is not asked here. A ``parked`` sequence has its
        memory already.
        """
        firsts = (self._first(model, now) for model in self._queue.models() if model not in without)
        ready = [entry for entry in firsts if entry is not None]
        best = min(ready, key=lambda entry: (entry.urgency(now), entry.order), default=None)
        return None if best is None else best.sequence

    def admit(self, sequence: Sequence, now: float) -> None:
        """Give ``sequence``, the candidate, a place. There must be one."""
        entry = self._entry(sequence)
        self._queue.leave(entry)
        entry.admit(now)
        self._holders.run(entry)

    def victim(self, candidate: Sequence, now: float, *, for_memory: bool) -> Sequence | None:
        """Return the sequence to be parked for ``candidate``: the least urgent of a lower class, the youngest of these.

        For a place: one that runs on the same model, or None if there is a place. For memory: one that holds some, on
        any model, first those that do not run; None if none has to give way, and those that run must be waited for.
        """
        if for_memory:
            return least(self._holders.victims(candidate, now), now)
        if self._has_place(candidate.model):
            return None
        return least(self._holders.victims_of_place(candidate, now), now)

    def yields(self, candidate: Sequence, now: float) -> Yield:
        """Return the memory of all that ``victim`` could name for it: if it is too little, none must lose its cache."""
        return self._holders.yields(candidate, now)

    def park(self, sequence: Sequence, now: float, *, keep: bool) -> None:
        """Take the place of ``sequence`` away, or, from a parked one and not ``keep``, the memory.

        Unless ``keep``, the caller has dropped its cache, and it waits like a new one, but by its first arrival.
        """
        entry = self._entry(sequence)
        if self._holders.runs(sequence):
            self._leave_place(entry, now)
            self._queue.join(entry)
        if not keep:
            self._holders.drop(entry)

    def pause(self, sequence: Sequence, now: float, why: str = WINDOW) -> None:
        """Set ``sequence`` aside until it was resumed for this reason and for all others. Idempotent.

        Meanwhile it has no place, but keeps its memory.
        """
        was_paused = sequence.paused
        sequence.standing.aside.add(why)
        if was_paused:
            return
        entry = self._entry(sequence)
        if self._holders.runs(sequence):
            self._leave_place(entry, now)
        else:
            self._queue.leave(entry)
        entry.paused_s = now

    def resume(self, sequence: Sequence, now: float, why: str = WINDOW) -> None:
        """Let a paused ``sequence`` wait for a place. Idempotent.

        A pause for its host's window does not count as waiting.
        """
        if why not in sequence.standing.aside:
            return
        sequence.standing.aside.remove(why)
        if not sequence.paused:
            entry = self._entry(sequence)
            if why == WINDOW:
                entry.waits_since_s += now - entry.paused_s
            self._queue.join(entry)

    def retire(self, sequence: Sequence, now: float) -> None:
        """Forget ``sequence``, in whatever state."""
        entry = self._entry(sequence)
        runs = self._holders.runs(sequence)
        if not (runs or sequence.paused):
            self._queue.leave(entry)
        if runs or sequence.parked:
            self._holders.drop(entry)
        self._forget(sequence)
        del self._deadlines[bisect_left(self._deadlines, _deadline(sequence), key=_deadline)]
        if self._last_end_s is not None:
            # A refused host is told to wait for the mean of the last few intervals.
            self._between_ends_s += 0.2 * (now - self._last_end_s - self._between_ends_s)
        self._last_end_s = now

    def youngest(self, now: float) -> Sequence | None:
        """Return the sequence that loses its memory when there is no more, None if none holds any.

        First come those that do not run, then the least urgent; of equals the youngest.
        """
        return least(self._holders, now)

    def expired(self, now: float) -> list[Sequence]:
        """Return the sequences past their deadlines, in whatever state: the caller ends them."""
        return self._deadlines[: bisect_right(self._deadlines, (now, inf), key=_deadline)]

    def next_event_s(self) -> float:
        """Return the earliest deadline, infinite if there is none."""
        return self._deadlines[0].asked.deadline_s if self._deadlines else inf

    # The device.

    def next_lane(self, due: Iterable[Lane]) -> Lane | None:
        """Return the lane of ``due`` that has had the least of the device; ``charge`` counts the time that it had."""
        return self._fair_queue.next(due)

    def charge(self, lane: Hashable, seconds: float) -> None:
        self._fair_queue.charge(lane, seconds)

    def plan(self, model: str, now: float, sharing: int = 1) -> list[Work]:
        """Plan the next step of ``model``: a token for all that decode, in order of admission, and then some prefill.

        ``sharing`` lanes are due. Empty if none has anything to take in.
        """
        return self._planner.plan(self._holders.running, model, now, sharing)

    def account(self, model: str, work: list[Work], seconds: float) -> None:
        """Learn from a step of ``model`` that did ``work`` in ``seconds``."""
        self._planner.account(model, work, seconds)

    def launched(self, model: str, work: list[Work]) -> None:
        """Note that a step of ``model`` that does ``work``, which only decodes, is in flight."""
        self._planner.launched(model, work)

    def read(self, model: str, seconds: float) -> None:
        """Learn that the device took ``seconds`` for the step of ``model`` that was in flight."""
        self._planner.read(model, seconds)

    def grown(self, model: str, work: list[Work]) -> None:
        """Reserve more room for sequences that need it after a step of ``model`` that did ``work``.

        Sequences that the step has ended are still in the books.
        """
        self._holders.grown(model, [part.sequence for part in work])

    def expected_s(self, model: str, work: list[Work]) -> float | None:
        """Return the seconds that ``work`` should take; None if nothing like it was measured."""
        return self._planner.expected_s(model, work)

    def _entry(self, sequence: Sequence) -> QueueEntry:
        return self._entries[sequence.id]

    def _forget(self, sequence: Sequence) -> None:
        del self._entries[sequence.id]
        if sequence.draft is not None:
            self._drafts[sequence.draft] -= 1
        of_model = self._models[sequence.model]
        del of_model[sequence.id]
        if not of_model:
            del self._models[sequence.model]

    def _has_place(self, model: str) -> bool:
        return len(self._holders.running.get(model, ())) < self._limits.running

    def _first(self, model: str, now: float) -> QueueEntry | None:
        """Return the next of ``model``: for a free place the most urgent, for a taken one that of the highest class."""
        heads = self._queue.heads(model, now)
        if self._has_place(model):
            return min(heads, key=lambda entry: entry.urgency(now), default=None)
        first = next(heads, None)
        if first is None or next(self._holders.victims_of_place(first.sequence, now), None) is None:
            return None
        return first

    def _leave_place(self, entry: QueueEntry, now: float) -> None:
        entry.leave(now)
        self._holders.park(entry)


def _deadline(sequence: Sequence) -> tuple[float, int]:
    return sequence.asked.deadline_s, sequence.id

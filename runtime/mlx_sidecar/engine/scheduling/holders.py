"""The holders are the sequences that hold a cache; some may have to give it up to more urgent ones. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ...link.messages import RANKS
from ..core.memory_ledger import SEQUENCES, MemoryLedger, Owner
from ..core.sequence import Sequence
from .priority_queue import QueueEntry


class Yield(NamedTuple):
    """The memory that some sequences hold together."""

    sequences: int
    nbytes: int


@dataclass(slots=True)
class _Parked:
    """Totals over the parked sequences of one class."""

    sequences: int = 0
    nbytes: int = 0


class Holders:
    """Running sequences have a place of their model; parked ones have none, and keep their cache.

    The bytes that each holds are entered in the ledger when it is admitted and when it outgrows its room. So a step
    costs nothing for sequences that took no part in it.
    """

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self.running: dict[str, dict[int, QueueEntry]] = {}  # in order of admission
        self.parked: dict[int, QueueEntry] = {}
        self._parked_ranks: defaultdict[int, _Parked] = defaultdict(_Parked)

    def __len__(self) -> int:
        return sum(map(len, self.running.values())) + len(self.parked)

    def __iter__(self) -> Iterator[QueueEntry]:
        for running in self.running.values():
            yield from running.values()
        yield from self.parked.values()

    def of_model(self, model: str) -> list[Sequence]:
        """Return the holders of ``model``: first those that run, in order of admission."""
        return [entry.sequence for entry in self if entry.sequence.model == model]

    def runs(self, sequence: Sequence) -> bool:
        """Whether ``sequence`` has a place."""
        entry = self.running.get(sequence.model, {}).get(sequence.id)
        return entry is not None and entry.sequence is sequence

    def run(self, entry: QueueEntry) -> None:
        """Note that ``entry`` has a place, and from here on a cache."""
        if entry.sequence.parked:
            self._forget_parked(entry)
        else:
            self._reserve(entry)
        self.running.setdefault(entry.sequence.model, {})[entry.sequence.id] = entry

    def park(self, entry: QueueEntry) -> None:
        """Take the place of ``entry``, which runs; it keeps its cache."""
        self._leave_place(entry)
        entry.sequence.standing.parked = True
        self.parked[entry.sequence.id] = entry
        total = self._parked_ranks[entry.rank]
        total.sequences += 1
        total.nbytes += entry.reserved_bytes

    def drop(self, entry: QueueEntry) -> None:
        """Note that the cache of ``entry`` is gone, and its place if it had one."""
        if entry.sequence.parked:
            self._forget_parked(entry)
        else:
            self._leave_place(entry)
        self._ledger.release(_owner(entry))

    def grown(self, model: str, sequences: Iterable[Sequence]) -> None:
        """Reserve more room for ``sequences`` of ``model`` that need it after a step; all of them have a place."""
        running = self.running.get(model, {})
        for sequence in sequences:
            entry = running[sequence.id]
            if sequence.total >= entry.room_tokens:
                self._reserve(entry)

    def victims(self, candidate: Sequence, now: float) -> Iterator[QueueEntry]:
        """Yield the holders that may have to give up their memory for ``candidate``."""
        for running in self.running.values():
            yield from _yielding(running, candidate, now)
        for entry in self.parked.values():
            if entry.sequence is not candidate and self._yields_parked(entry.rank, candidate):
                yield entry

    def yields(self, candidate: Sequence, now: float) -> Yield:
        """Return the memory that ``victims`` hold, without a look at each of the parked ones."""
        entries = [entry for running in self.running.values() for entry in _yielding(running, candidate, now)]
        count, nbytes = len(entries), sum(entry.reserved_bytes for entry in entries)
        for rank, parked in self._parked_ranks.items():
            if self._yields_parked(rank, candidate):
                count += parked.sequences
                nbytes += parked.nbytes
        own = self.parked.get(candidate.id)
        if own is not None and self._yields_parked(own.rank, candidate):
            return Yield(count - 1, nbytes - own.reserved_bytes)
        return Yield(count, nbytes)

    def victims_of_place(self, candidate: Sequence, now: float) -> Iterator[QueueEntry]:
        """Yield the holders that may have to give up their place for ``candidate``."""
        return _yielding(self.running.get(candidate.model, {}), candidate, now)

    def _yields_parked(self, rank: int, candidate: Sequence) -> bool:
        # While a sequence runs, memory will come free. If none does, the parked ones would hold theirs for ever.
        return rank > RANKS[candidate.asked.priority] or not self.running

    def _reserve(self, entry: QueueEntry) -> None:
        entry.room_tokens, entry.reserved_bytes = entry.sequence.room_tokens, entry.sequence.need_bytes
        self._ledger.reserve(_owner(entry), entry.reserved_bytes)

    def _leave_place(self, entry: QueueEntry) -> None:
        running = self.running[entry.sequence.model]
        del running[entry.sequence.id]
        if not running:
            del self.running[entry.sequence.model]

    def _forget_parked(self, entry: QueueEntry) -> None:
        entry.sequence.standing.parked = False
        del self.parked[entry.sequence.id]
        total = self._parked_ranks[entry.rank]
        total.sequences -= 1
        total.nbytes -= entry.reserved_bytes


def least(entries: Iterable[QueueEntry], now: float) -> Sequence | None:
    """Return the sequence of ``entries`` whose loss is least; one that is about to end only if all are.

    Sequences that do not run come first, then those of the lowest class, then the last to arrive.
    """

    def loss(entry: QueueEntry) -> tuple[bool, bool, int, tuple[float, int]]:
        sequence = entry.sequence
        rank = entry.rank if sequence.parked else entry.running_rank(now)
        return not sequence.spent, sequence.parked, rank, entry.order

    found = max(entries, key=loss, default=None)
    return None if found is None else found.sequence


def _yielding(running: dict[int, QueueEntry], candidate: Sequence, now: float) -> Iterator[QueueEntry]:
    """Yield the entries of ``running`` that are of a lower class than ``candidate`` and not about to end."""
    rank = RANKS[candidate.asked.priority]
    return (entry for entry in running.values() if entry.running_rank(now) > rank and not entry.sequence.spent)


def _owner(entry: QueueEntry) -> Owner:
    return Owner(SEQUENCES, entry.sequence.id)

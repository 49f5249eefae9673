"""Sequences wait by class and arrival, and waiting makes them more urgent. Pure: time is a number."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from ...link.messages import RANKS
from ..core.sequence import Sequence

# A sequence that has waited so long counts as of the class above, and it holds its place so long at that class. Long
# against a short answer, so that classes mean something; short enough that a low one is first after half a minute.
AGEING_S = 10.0


@dataclass(eq=False, slots=True)
class QueueEntry:
    """The scheduler's notes on a sequence: since when it waits, and the class it runs as.

    While it holds a cache, ``reserved_bytes`` of it are in the ledger: enough for ``room_tokens``.
    """

    sequence: Sequence
    waits_since_s: float
    runs_as: int = RANKS["low"]  # its class, from its last admission until it has settled
    paused_s: float = 0.0
    room_tokens: int = 0
    reserved_bytes: int = 0

    @property
    def rank(self) -> int:
        return RANKS[self.sequence.asked.priority]

    @property
    def order(self) -> tuple[float, int]:
        """Its place in its class, which is by arrival."""
        return self.sequence.asked.arrived_s, self.sequence.asked.id

    def urgency(self, now: float) -> float:
        """Return its urgency: less is more urgent. Each AGEING_S of waiting lowers it by one, a class, without end."""
        return self.rank - (now - self.waits_since_s) / AGEING_S

    def admit(self, now: float) -> None:
        """Note that it runs, at first as of the class that waiting has made it.

        So no sequence that it overtook can take its place.
        """
        self.runs_as = max(0, min(self.rank, ceil(self.urgency(now))))
        self.sequence.standing.admitted_s = now

    def leave(self, now: float) -> None:
        """Note that it gives up its place. Unless it had settled there, its wait goes on as if it had not run."""
        if self._settled(now):
            self.waits_since_s = now

    def running_rank(self, now: float) -> int:
        """Return the class that counts when other sequences want its place."""
        return self.rank if self._settled(now) else self.runs_as

    def _settled(self, now: float) -> bool:
        """Whether it has had its place for AGEING_S and has got a token, which takes longer for a long prompt."""
        last_token_s, admitted_s = self.sequence.times.last_token_s, self.sequence.standing.admitted_s
        return last_token_s is not None and last_token_s > admitted_s and now >= admitted_s + AGEING_S


class PriorityQueue:
    """A queue for each model and class, called a line. Ageing shifts a line as a whole, so only heads are compared.

    ``waits_since_s`` is non-decreasing along a line. ``join`` restores that when a preempted entry, which arrived
    earlier but has waited less, comes back ahead of newer ones.
    """

    def __init__(self) -> None:
        self._queue: dict[str, dict[int, list[QueueEntry]]] = {}

    def models(self) -> list[str]:
        return list(self._queue)

    def join(self, entry: QueueEntry) -> None:
        """Put ``entry`` in its line by arrival: ahead of newer ones of the class, if it comes back."""
        line = self._queue.setdefault(entry.sequence.model, {}).setdefault(entry.rank, [])
        at = bisect_left(line, entry.order, key=_order)
        if at < len(line):
            entry.waits_since_s = min(entry.waits_since_s, line[at].waits_since_s)
        line.insert(at, entry)
        while at and line[at - 1].waits_since_s > entry.waits_since_s:
            at -= 1
            line[at].waits_since_s = entry.waits_since_s

    def leave(self, entry: QueueEntry) -> None:
        lines = self._queue[entry.sequence.model]
        line = lines[entry.rank]
        at = bisect_left(line, entry.order, key=_order)
        assert line[at] is entry
        del line[at]
        if not line:
            del lines[entry.rank]
        if not lines:
            del self._queue[entry.sequence.model]

    def heads(self, model: str, now: float) -> Iterator[QueueEntry]:
        """Yield the first entry of each class that is in time for its deadline, the most urgent class first."""
        for _, line in sorted(self._queue[model].items()):
            head = next((entry for entry in line if entry.sequence.asked.deadline_s > now), None)
            if head is not None:
                yield head


def _order(entry: QueueEntry) -> tuple[float, int]:
    return entry.order

"""Who waits for whom: a prompt that another sequence is computing right now is not computed a second time beside it."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from ...link.messages import RANKS
from ..cache.segment import BLOCK
from ..core.sequence import Sequence
from ..resident_models import ResidentModels
from ..scheduling.scheduler import Scheduler

# Arrays are compared in pieces: a difference is found without looking at what follows.
_PIECE = 512


class _Wait(NamedTuple):
    """``follower`` waits until the first ``tokens`` of ``leader`` are in the cache."""

    follower: Sequence
    leader: Sequence
    tokens: int


class PrefixCoalescing:
    """Decides over sequences that are about to be admitted; whoever calls it sets them aside."""

    def __init__(self, scheduler: Scheduler, models: ResidentModels) -> None:
        self._scheduler = scheduler
        self._models = models
        self._waits: list[_Wait] = []

    def waits(self, candidate: Sequence) -> bool:
        """Whether ``candidate`` is to wait for another that prefills what it begins with, and will soon have done so.

        Only for one that is at least as urgent, and only while that one is not held up itself.
        """
        leaders = [other for other in self._scheduler.running_on(candidate.model) if _leads(other, candidate)]
        loaded = self._models.resident(candidate.model).loaded
        if not leaders or loaded.prefixes is None or candidate.generated:
            return False
        tokens = candidate.history()
        reach = loaded.prefixes.reach(tokens)
        for leader in leaders:
            common = min(common_prefix(tokens, leader.history()), len(tokens) - 1)
            until = _last_block(common, leader, within=not loaded.prefixes.spec.checkpoints)
            if min(common, until) >= max(reach, leader.cached_upto) + BLOCK:
                loaded.batch.share(leader, until)
                self._waits.append(_Wait(candidate, leader, until))
                return True
        return False

    def served(self) -> list[Sequence]:
        """Those whose wait is over: what they wait for is there, or will not come. Some may have ended meanwhile."""
        over = [
            wait for wait in self._waits if wait.leader.cached_upto >= wait.tokens or not self._computes(wait.leader)
        ]
        if over:
            self._waits = [wait for wait in self._waits if wait not in over]
        followers = [wait.follower for wait in over]
        return [follower for follower in followers if self._scheduler.find(follower.id) is follower]

    def _computes(self, leader: Sequence) -> bool:
        return _prefills(leader) and leader in self._scheduler.running_on(leader.model)


def _last_block(common: int, leader: Sequence, *, within: bool) -> int:
    """The end of the block of ``leader`` from which others can go on after ``common`` tokens: ``within`` it, or only
    behind one. The end of its prompt is not to be had before its answer is there, unless a block ends with it."""
    end = -(-common // BLOCK) * BLOCK
    return end if within and end <= len(leader.tokens) else common // BLOCK * BLOCK


def _leads(other: Sequence, candidate: Sequence) -> bool:
    return _prefills(other) and RANKS[other.priority] <= RANKS[candidate.priority]


def _prefills(sequence: Sequence) -> bool:
    return not sequence.idle and sequence.known < len(sequence.tokens)


def common_prefix(one: array[int], other: array[int]) -> int:
    """How many tokens they have in common from the start."""
    most = min(len(one), len(other))
    start = 0
    while start < most and one[start : start + _PIECE] == other[start : start + _PIECE]:
        start += _PIECE
    while start < most and one[start] == other[start]:
        start += 1
    return min(start, most)

"""A prompt that another sequence is computing right now is not computed a second time beside it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from ...link.messages import RANKS
from ..cache.prefix_cache import PrefixCache
from ..cache.segment import BLOCK
from ..core.preparer import Preparer
from ..core.sequence import Sequence
from ..resident_models import ResidentModels
from ..scheduling.scheduler import Scheduler

# Arrays are compared in pieces: a difference is found without looking at what follows.
_PIECE = 512


@dataclass(eq=False, slots=True)
class _Leader:
    """``followers`` wait until so many of the first tokens of ``sequence`` are in the cache, at least ``least``."""

    sequence: Sequence
    followers: dict[Sequence, int]
    least: int


class PrefixCoalescing(Preparer):
    """Lets a sequence wait for another that prefills the tokens it begins with, and will soon have done so.

    It waits only for one that is at least as urgent, and only while that one is not held up itself.
    """

    name = "shared prefix"

    def __init__(self, scheduler: Scheduler, models: ResidentModels, prefix_cache: PrefixCache) -> None:
        self._scheduler = scheduler
        self._models = models
        self._counters = prefix_cache.store.counters
        self._leaders: dict[Sequence, _Leader] = {}
        self._leader_of: dict[Sequence, _Leader] = {}  # by follower

    def holds_back(self, candidate: Sequence, now: float) -> bool:
        """Whether ``candidate`` will soon have less to compute, because a sequence that runs computes it now."""
        if candidate.parked or candidate.generated or not candidate.asked.cacheable:
            return False
        leaders = [other for other in self._scheduler.running_on(candidate.model) if _leads(other, candidate)]
        loaded = self._models.resident(candidate.model).loaded
        prefixes = loaded.prefixes_of(candidate)
        if not leaders or prefixes is None:
            return False
        tokens = candidate.history()
        reach = prefixes.reach(tokens)
        for leader in leaders:
            common = min(common_prefix(tokens, leader.history()), len(tokens) - 1, leader.asked.cacheable)
            until = _last_block(common, leader, within=not prefixes.spec.checkpoints)
            if min(common, until) >= max(reach, leader.cached_upto) + BLOCK:
                loaded.batch.share(leader, until)
                self._follow(candidate, leader, until)
                return True
        return False

    def ready(self, now: float) -> Iterable[Sequence]:
        """Yield the followers whose prefix is there, or will not come."""
        over = [follower for leader in self._leaders.values() for follower in self._served(leader)]
        for follower in over:
            self.left(follower)
        return over

    def left(self, sequence: Sequence) -> None:
        """End the wait of ``sequence``. Those that wait for it are released by ``ready``."""
        leader = self._leader_of.pop(sequence, None)
        if leader is None:
            return
        del leader.followers[sequence]
        if not leader.followers:
            del self._leaders[leader.sequence]
            return
        leader.least = min(leader.followers.values())

    def _follow(self, follower: Sequence, sequence: Sequence, tokens: int) -> None:
        leader = self._leaders.setdefault(sequence, _Leader(sequence, {}, tokens))
        leader.followers[follower] = tokens
        leader.least = min(leader.least, tokens)
        self._leader_of[follower] = leader
        self._counters["shared_waits"] += 1

    def _served(self, leader: _Leader) -> list[Sequence]:
        """The followers of ``leader`` whose wait is over."""
        there = leader.sequence.cached_upto
        if not (_prefills(leader.sequence) and self._scheduler.runs(leader.sequence)):
            return list(leader.followers)
        if there < leader.least:
            return []
        return [follower for follower, tokens in leader.followers.items() if there >= tokens]


def _last_block(common: int, leader: Sequence, *, within: bool) -> int:
    """Return the end of the block of ``leader`` from which others can go on after ``common`` tokens.

    They can go on ``within`` a block, or only behind one. The end of its prompt cannot be had before its answer is
    there, unless a block ends with it.
    """
    end = -(-common // BLOCK) * BLOCK
    return end if within and end <= len(leader.tokens) else common // BLOCK * BLOCK


def _leads(other: Sequence, candidate: Sequence) -> bool:
    alike = other.asked.adapter == candidate.asked.adapter
    return alike and _prefills(other) and RANKS[other.asked.priority] <= RANKS[candidate.asked.priority]


def _prefills(sequence: Sequence) -> bool:
    return not sequence.idle and sequence.known < len(sequence.tokens)


def common_prefix(one: array[int], other: array[int]) -> int:
    """Return how many tokens they have in common from the start."""
    most = min(len(one), len(other))
    start = 0
    while start < most and one[start : start + _PIECE] == other[start : start + _PIECE]:
        start += _PIECE
    while start < most and one[start] == other[start]:
        start += 1
    return min(start, most)

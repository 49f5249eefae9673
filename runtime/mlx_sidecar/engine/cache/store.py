"""All blocks of all models: what is in memory and what is on disk, found by tokens, bounded in bytes.

Blocks are shared by everybody whose prompt begins with the same tokens. What was not used for longest goes first, and
never before what was computed on top of it: so the trunk that many conversations share outlives each of them.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from mlx_sidecar_native._native import Match, PrefixIndex

from .segment import BLOCK, Segment

COUNTERS = (
    "lookups",
    "hits",
    "ram_tokens",
    "disk_tokens",
    "stored_blocks",
    "evicted_blocks",
    "shared_waits",
)


@dataclass(slots=True)
class _Kept:
    """An segment, how many blocks are found in it, and how many pins hold some of these."""

    segment: Segment
    blocks: int
    nbytes: int
    pins: int = 0


class Found(NamedTuple):
    """Blocks on the way of a prompt: tokens ``start`` to ``stop``, payload ``ram`` and ``disk`` (-1: not there)."""

    node: int
    start: int
    stop: int
    ram: int
    disk: int


class Store:
    """Used by the step loop only. ``limit_bytes`` is for what is in memory; 0 switches the cache off."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.index = PrefixIndex(BLOCK)
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.used_bytes = 0
        self.pinned_bytes = 0  # of segments that pins hold, wholly or in part
        self._numbers = count()
        self._kept: dict[int, _Kept] = {}
        self.superseded: Callable[[list[int]], None] = lambda _: None
        """Told of blocks on disk that longer ones in memory took the place of."""

    @property
    def enabled(self) -> bool:
        return self.limit_bytes > 0

    def __getitem__(self, number: int) -> Segment:
        return self._kept[number].segment

    def find(self, root: int, tokens: array[int], *, touch: bool = True) -> list[Found]:
        """What is known of ``tokens``, block by block from the first on; the last may be known in part."""
        return list(_found(self.index.find(root, tokens, touch)))

    def put(self, root: int, tokens: array[int], segment: Segment, *, exact: bool) -> int | None:
        """Keep ``segment`` of ``tokens``; its number. ``exact``: where it stops counts, so what stops elsewhere does
        not serve for it.

        None where it is not kept: everything in it is there already, there is no room for it, or what comes before it
        has gone.
        """
        nbytes = segment.nbytes
        if not self.make_room(nbytes):
            return None
        number = next(self._numbers)
        try:
            inserted = self.index.insert(root, tokens, segment.start, segment.stop, number, False, exact)
        except ValueError:  # nobody could find it without what comes before
            return None
        self.give_up(inserted.ram)
        self.superseded(inserted.disk)
        if not inserted.count:
            return None
        self._kept[number] = _Kept(segment, inserted.count, nbytes)
        self.used_bytes += nbytes
        self.counters["stored_blocks"] += inserted.count
        return number

    def give_up(self, numbers: Iterable[int]) -> None:
        """Blocks in these segments are found there no more."""
        for number in numbers:
            self._lose(number)

    def make_room(self, nbytes: int) -> bool:
        """Evict until ``nbytes`` more may be kept; False if what is held does not allow it."""
        if nbytes + self.pinned_bytes > self.limit_bytes:
            return False
        self.release(self.used_bytes + nbytes - self.limit_bytes)
        return self.used_bytes + nbytes <= self.limit_bytes

    def release(self, nbytes: float) -> int:
        """Evict ``nbytes``, as far as that is possible; how many it was."""
        before = self.used_bytes
        while before - self.used_bytes < nbytes and (number := self.index.evict()) >= 0:
            self._lose(number)
            self.counters["evicted_blocks"] += 1
        return before - self.used_bytes

    def clear(self, root: int) -> int:
        """Forget what is in memory of one tree; how many bytes that was."""
        before = self.used_bytes
        self.give_up(self.index.clear(root, False))
        return before - self.used_bytes

    def hold(self, nodes: list[int], numbers: Iterable[int]) -> None:
        """Evict none of ``nodes``, which are in the segments ``numbers``, until they are let go."""
        self.index.hold(nodes)
        for number in numbers:
            kept = self._kept[number]
            kept.pins += 1
            self.pinned_bytes += kept.nbytes if kept.pins == 1 else 0

    def let_go(self, nodes: list[int], numbers: Iterable[int]) -> None:
        self.index.let_go(nodes)
        for number in numbers:
            kept = self._kept[number]
            kept.pins -= 1
            self.pinned_bytes -= 0 if kept.pins else kept.nbytes

    def _lose(self, number: int) -> None:
        kept = self._kept[number]
        kept.blocks -= 1
        if not kept.blocks:
            self.used_bytes -= kept.nbytes
            del self._kept[number]


def _found(match: Match) -> list[Found]:
    starts = [0, *match.ends]
    found = [
        Found(node, start, stop, ram, disk)
        for node, start, stop, ram, disk in zip(match.nodes, starts, match.ends, match.ram, match.disk, strict=False)
    ]
    if match.tail >= 0:
        found.append(Found(match.tail, starts[-1], match.common, match.tail_ram, match.tail_disk))
    return found

"""The blocks of all models, in memory and on disk: found by tokens, bounded in bytes.

All prompts that begin with the same tokens share their blocks. The least recently used block is evicted first, but
never before the blocks that continue it: so the trunk that many conversations share outlives each of them.
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
    """A segment, the number of blocks found in it, and the number of pins that hold some of these."""

    segment: Segment
    blocks: int
    nbytes: int
    pins: int = 0


class Found(NamedTuple):
    """A known block of a prompt: tokens ``start`` to ``stop``, and its payloads ``ram`` and ``disk`` (-1: none)."""

    node: int
    start: int
    stop: int
    ram: int
    disk: int


class Store:
    """The segments in memory, at most ``limit_bytes`` of them; 0 switches the cache off. Used by the step loop only."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.index = PrefixIndex(BLOCK)
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.used_bytes = 0
        self.pinned_bytes = 0  # of segments that pins hold, in whole or in part
        self._numbers = count()
        self._kept: dict[int, _Kept] = {}
        self.superseded: Callable[[list[int]], None] = lambda _: None
        """Called with the numbers of files whose blocks were replaced by longer ones in memory, one for each block."""

    @property
    def enabled(self) -> bool:
        return self.limit_bytes > 0

    def __getitem__(self, number: int) -> Segment:
        return self._kept[number].segment

    def find(self, root: int, tokens: array[int], *, touch: bool = True) -> list[Found]:
        """Return the known blocks of ``tokens`` from the first on; the last one may be known in part."""
        return list(_found(self.index.find(root, tokens, touch)))

    def put(self, root: int, tokens: array[int], segment: Segment, *, exact: bool) -> int | None:
        """Keep ``segment`` of ``tokens`` and return its number; None where it is not kept.

        It is not kept where all its blocks are in memory already, where there is no room for it, or where the blocks
        before it are gone. ``exact`` says that its end counts, so that blocks with another end do not serve for it.
        """
        nbytes = segment.nbytes
        if not self.make_room(nbytes):
            return None
        number = next(self._numbers)
        try:
            inserted = self.index.insert(root, tokens, segment.start, segment.stop, number, False, exact)
        except ValueError:  # it could not be found without the blocks before it
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
        """Let go of segments, by number, one entry for each block that is no longer found in them."""
        for number in numbers:
            self._lose(number)

    def make_room(self, nbytes: int) -> bool:
        """Evict until ``nbytes`` more may be kept; return False if pinned blocks do not allow it."""
        if nbytes + self.pinned_bytes > self.limit_bytes:
            return False
        self.release(self.used_bytes + nbytes - self.limit_bytes)
        return self.used_bytes + nbytes <= self.limit_bytes

    def release(self, nbytes: float) -> int:
        """Evict ``nbytes``, or as many as can be, and return how many were."""
        before = self.used_bytes
        while before - self.used_bytes < nbytes and (number := self.index.evict()) >= 0:
            self._lose(number)
            self.counters["evicted_blocks"] += 1
        return before - self.used_bytes

    def clear(self, root: int) -> int:
        """Forget the blocks of one tree in memory; return how many bytes they had."""
        before = self.used_bytes
        self.give_up(self.index.clear(root, False))
        return before - self.used_bytes

    def pin(self, nodes: list[int], numbers: Iterable[int]) -> None:
        """Pin ``nodes``, whose segments are ``numbers``: none is evicted until ``unpin``."""
        self.index.hold(nodes)
        for number in numbers:
            kept = self._kept[number]
            kept.pins += 1
            self.pinned_bytes += kept.nbytes if kept.pins == 1 else 0

    def unpin(self, nodes: list[int], numbers: Iterable[int]) -> None:
        """End one ``pin`` of ``nodes``, whose segments are ``numbers``."""
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

"""What is cached of one model: the rooms of the store that are its own, and what its rows can be given from there."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from ...link.messages import Nearest
from .prefix_match import CacheSpec, Piece, joined, usable
from .segment import BLOCK, Segment
from .store import Found, Store

if TYPE_CHECKING:
    import mlx.core as mx

# What is told of the nearest known prompt: tokens before the first that differs, and behind it.
_BEFORE, _BEHIND = 32, 64


class SegmentSlice(NamedTuple):
    """Tokens ``start`` to ``stop`` of a segment that may hold more on either side."""

    segment: Segment
    start: int
    stop: int

    def part(self, span: int, start: int) -> mx.array | None:
        """Entries of a span from ``start``, or where the segment begins, to its end; [members, heads, tokens, size]."""
        first, data = self.segment.spans[span]
        begin = max(start, self.start, first)
        return data[:, :, begin - first : self.stop - first] if begin < self.stop else None


class PrefixMatch(NamedTuple):
    """The first ``length`` tokens of a prompt need not be computed. ``disk`` of them were fetched for it from disk."""

    length: int = 0
    slices: tuple[SegmentSlice, ...] = ()
    checkpoints: tuple[mx.array | None, ...] = ()
    disk: int = 0

    def entries(self, span: int, start: int) -> list[tuple[int, mx.array]]:
        """What there is of a span from token ``start`` on: where each part begins, and the part."""
        parts = (
            (max(start, piece_.start, piece_.segment.spans[span].first), piece_.part(span, start))
            for piece_ in self.slices
        )
        return [(begin, part) for begin, part in parts if part is not None]


NOTHING = PrefixMatch()


Stored = Callable[["Prefixes", "array[int]", Segment], None]
"""Told of each segment that is new, and of the tokens that it belongs to."""


class Prefixes:
    """The blocks of one model. ``identity`` names everything that its keys and values depend on besides the tokens."""

    def __init__(self, store: Store, identity: str, spec: CacheSpec, stored: Stored | None = None) -> None:
        self.store = store
        self.identity = identity
        self.spec = spec
        self._stored = stored
        self.root = store.index.root()
        self._pins: dict[bytes, tuple[list[int], set[int]]] = {}

    def close(self) -> None:
        """Forget everything that is in memory. Nothing may be asked afterwards."""
        self.clear()
        self.store.index.drop(self.root)

    def clear(self) -> int:
        """Forget what is in memory, pinned or not; how many bytes that was."""
        for pin in self._pins.values():
            self.store.let_go(*pin)
        self._pins.clear()
        return self.store.clear(self.root)

    # For rows.

    def find(self, tokens: array[int], fetched: Iterable[int] = ()) -> PrefixMatch:
        """The most that a row of ``tokens`` can be given; at least one token is left, for a row must produce logits.

        ``fetched`` are the numbers of segments that came from disk for it.
        """
        found = self.store.find(self.root, tokens)
        pieces = self._pieces(found)
        count = usable(pieces, self.spec, len(tokens) - 1)
        pieces = [piece for piece in pieces if piece.start < count]
        slices = tuple(SegmentSlice(self.store[piece.number], piece.start, min(piece.stop, count)) for piece in pieces)
        checkpoints = slices[-1].segment.checkpoints if slices and self.spec.checkpoints else ()
        disk = sum(
            piece_.stop - piece_.start for piece_, piece in zip(slices, pieces, strict=True) if piece.number in fetched
        )
        counters = self.store.counters
        counters["lookups"] += 1
        counters["hits"] += count > 0
        counters["ram_tokens"] += count - disk
        counters["disk_tokens"] += disk
        return PrefixMatch(count, slices, checkpoints, disk)

    def lacks(self, tokens: array[int], stop: int) -> int:
        """From which block on something of the first ``stop`` tokens is not in memory; ``stop`` if all is."""
        held = self._held(tokens[:stop])
        covered = held[-1].stop if held else 0
        return stop if covered >= stop else covered // BLOCK * BLOCK

    def put(self, tokens: array[int], segments: list[Segment]) -> None:
        """Keep what was computed of ``tokens``, as far as it is not there; ``segments`` are in order."""
        covered = self.lacks(tokens, segments[-1].stop) if segments and not self.spec.checkpoints else 0
        for segment in segments:
            if segment.stop <= covered or (self.spec.checkpoints and self.serves(tokens, segment)):
                continue
            kept = self.store.put(self.root, tokens, segment, exact=self.spec.checkpoints)
            if kept is not None and self._stored is not None:
                self._stored(self, tokens, segment)

    def reach(self, tokens: array[int]) -> int:
        """How many tokens ``find`` would give now."""
        return usable(self._pieces(self.store.find(self.root, tokens, touch=False)), self.spec, len(tokens) - 1)

    def serves(self, tokens: array[int], segment: Segment) -> bool:
        """Whether what is in memory can do all that ``segment`` can."""
        held = self._held(tokens[: segment.stop])
        if not held or held[-1].stop < segment.stop:
            return False
        return not segment.checkpoints or usable(self._pieces(held), self.spec, segment.stop) == segment.stop

    def _held(self, tokens: array[int]) -> list[Found]:
        """The blocks of ``tokens`` that are in memory, from the first on without a gap."""
        return list(takewhile(lambda block: block.ram >= 0, self.store.find(self.root, tokens)))

    def checkpoint_at(self, tokens: array[int]) -> int:
        """Where ``tokens`` leave the nearest known prompt, to the block: others will leave it there as well."""
        return self.store.index.find(self.root, tokens, False).common // BLOCK * BLOCK

    def _pieces(self, found: list[Found]) -> list[Piece]:
        return joined(self.piece(block) for block in takewhile(lambda block: block.ram >= 0, found))

    def piece(self, block: Found) -> Piece:
        """What is in memory of a block."""
        segment = self.store[block.ram]
        firsts = tuple(span.first for span in segment.spans)
        checkpointed = bool(segment.checkpoints) and block.stop == segment.stop
        return Piece(block.ram, block.start, min(block.stop, segment.stop), firsts, checkpointed)

    # For hosts.

    def pin(self, tokens: array[int]) -> int:
        """Keep the blocks of ``tokens`` whatever else is to be kept; how many tokens that is. Once is enough."""
        held = self._held(tokens)
        pinned = held[-1].stop if held else 0
        key = tokens[:pinned].tobytes()
        if key not in self._pins:
            pin = [block.node for block in held], {block.ram for block in held}
            self.store.hold(*pin)
            self._pins[key] = pin
        return pinned

    def has_pin(self, tokens: array[int]) -> bool:
        """Whether just these ``tokens`` are pinned, all of them."""
        return tokens.tobytes() in self._pins

    def nearest(self, tokens: array[int]) -> Nearest:
        """The known prompt that has most in common with ``tokens``, in either tier."""
        index = self.store.index
        match = index.find(self.root, tokens, False)
        last = match.tail
        if last < 0 and match.nodes:
            last = next(iter(index.children(match.nodes[-1])), match.nodes[-1])
        start = max(0, match.common - _BEFORE)
        known = [] if last < 0 else index.path(last)
        while last >= 0 and len(known) < match.common + _BEHIND and (following := index.children(last)):
            last = following[0]
            known += index.tokens(last)
        return Nearest(match.common, start, known[start : match.common + _BEHIND])

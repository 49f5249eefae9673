"""The cached prefixes of one model are its own tree in the store, which rows and hosts ask for blocks."""

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

# Tokens of the nearest known prompt that are told: before the first that differs, and behind it.
_BEFORE, _BEHIND = 32, 64


class SegmentSlice(NamedTuple):
    """A part of a segment, tokens ``start`` to ``stop``; the segment may hold more on either side."""

    segment: Segment
    start: int
    stop: int

    def part(self, span: int, start: int) -> mx.array | None:
        """Return the entries of ``span`` from ``start`` or later to the end: [members, heads, tokens, size].

        None if there are none.
        """
        entries = self.segment.spans[span]
        begin = max(start, self.start, entries.first)
        if begin >= self.stop:
            return None
        return entries.data[:, :, begin - entries.first : self.stop - entries.first]


class PrefixMatch(NamedTuple):
    """The longest usable prefix of a prompt: ``length`` tokens, ``disk`` of which were fetched from disk for it."""

    length: int = 0
    slices: tuple[SegmentSlice, ...] = ()
    checkpoints: tuple[mx.array | None, ...] = ()
    disk: int = 0

    def entries(self, span: int, start: int) -> list[tuple[int, mx.array]]:
        """Return the parts of ``span`` from token ``start`` on, each with the token at which it begins."""
        parts = (
            (max(start, piece_.start, piece_.segment.spans[span].first), piece_.part(span, start))
            for piece_ in self.slices
        )
        return [(begin, part) for begin, part in parts if part is not None]


NOTHING = PrefixMatch()


Stored = Callable[["Prefixes", "array[int]", Segment], None]
"""Called with each new segment and the tokens that it belongs to."""


class Prefixes:
    """The blocks of one model; ``identity`` names everything that keys and values depend on besides the tokens."""

    def __init__(self, store: Store, identity: str, spec: CacheSpec, stored: Stored | None = None) -> None:
        self.store = store
        self.identity = identity
        self.spec = spec
        self._stored = stored
        self.root = store.index.root()
        self._pins: dict[bytes, tuple[list[int], set[int]]] = {}

    def close(self) -> None:
        """Forget everything in memory, and the tree; no other method may be called afterwards."""
        self.clear()
        self.store.index.drop(self.root)

    def clear(self) -> int:
        """Forget all blocks in memory, pinned or not; return how many bytes they had."""
        for pin in self._pins.values():
            self.store.unpin(*pin)
        self._pins.clear()
        return self.store.clear(self.root)

    # For rows.

    def find(self, tokens: array[int], fetched: Iterable[int] = ()) -> PrefixMatch:
        """Return the longest prefix that a row of ``tokens`` can begin with.

        At least one token is left out, because a row must produce logits. ``fetched`` are the numbers of segments that
        came from disk for this row.
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
        """Return where the first block begins that is not wholly in memory; ``stop`` if all tokens before it are."""
        held = self._held(tokens[:stop])
        covered = held[-1].stop if held else 0
        return stop if covered >= stop else covered // BLOCK * BLOCK

    def put(self, tokens: array[int], segments: list[Segment]) -> None:
        """Keep those ``segments`` of ``tokens`` that are not in memory yet; they are in order."""
        covered = self.lacks(tokens, segments[-1].stop) if segments and not self.spec.checkpoints else 0
        for segment in segments:
            if segment.stop <= covered or (self.spec.checkpoints and self.serves(tokens, segment)):
                continue
            kept = self.store.put(self.root, tokens, segment, exact=self.spec.checkpoints)
            if kept is not None and self._stored is not None:
                self._stored(self, tokens, segment)

    def reach(self, tokens: array[int]) -> int:
        """Return how many tokens ``find`` would give now; marks nothing as used."""
        return usable(self._pieces(self.store.find(self.root, tokens, touch=False)), self.spec, len(tokens) - 1)

    def serves(self, tokens: array[int], segment: Segment) -> bool:
        """Whether the blocks in memory serve wherever ``segment`` would."""
        held = self._held(tokens[: segment.stop])
        if not held or held[-1].stop < segment.stop:
            return False
        return not segment.checkpoints or usable(self._pieces(held), self.spec, segment.stop) == segment.stop

    def _held(self, tokens: array[int]) -> list[Found]:
        """Return the blocks of ``tokens`` in memory, from the first one to the first gap."""
        return list(takewhile(lambda block: block.ram >= 0, self.store.find(self.root, tokens)))

    def checkpoint_at(self, tokens: array[int]) -> int:
        """Return the start of the block in which ``tokens`` part from the nearest known prompt.

        A checkpoint there is of use, because later prompts are likely to part from it in the same place.
        """
        return self.store.index.find(self.root, tokens, False).common // BLOCK * BLOCK

    def _pieces(self, found: list[Found]) -> list[Piece]:
        return joined(self.piece(block) for block in takewhile(lambda block: block.ram >= 0, found))

    def piece(self, block: Found) -> Piece:
        """Return the part of ``block`` that is in memory."""
        segment = self.store[block.ram]
        firsts = tuple(span.first for span in segment.spans)
        checkpointed = bool(segment.checkpoints) and block.stop == segment.stop
        return Piece(block.ram, block.start, min(block.stop, segment.stop), firsts, checkpointed)

    # For hosts.

    def pin(self, tokens: array[int]) -> int:
        """Pin the blocks of ``tokens`` in memory, so that none is evicted; return how many tokens they have.

        Idempotent.
        """
        held = self._held(tokens)
        pinned = held[-1].stop if held else 0
        key = tokens[:pinned].tobytes()
        if key not in self._pins:
            pin = [block.node for block in held], {block.ram for block in held}
            self.store.pin(*pin)
            self._pins[key] = pin
        return pinned

    def has_pin(self, tokens: array[int]) -> bool:
        """Whether a pin is on exactly these ``tokens``."""
        return tokens.tobytes() in self._pins

    def nearest(self, tokens: array[int]) -> Nearest:
        """Return the known prompt that shares the longest prefix with ``tokens``, in either tier."""
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

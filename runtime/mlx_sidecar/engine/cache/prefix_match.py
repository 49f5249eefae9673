"""Computes from the cached pieces of a prompt how many of its tokens need not be computed. Pure: numbers only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .segment import BLOCK, Segment

# Fewer tokens save less than their copy costs.
LEAST_TOKENS = 16


class SpanShape(NamedTuple):
    """The shape of a span's entry for one token: ``members`` times ``heads`` rows of ``size`` numbers."""

    members: int
    heads: int
    size: int
    dtype: str


def _width(dtype: str) -> int:
    """Return the bytes of one number of a type such as ``mlx.core.bfloat16``."""
    return int("".join(filter(str.isdigit, dtype.rpartition(".")[2])) or 8) // 8


class CacheSpec(NamedTuple):
    """The parts of a cache that a model needs to go on at a position.

    ``window`` says for each span of a segment how many entries before the position are needed, None for all.
    ``checkpoints`` says whether the states of recurrent layers are needed too, which exist only where a checkpoint was
    made. ``shapes`` are those of the spans, and ``states`` the shapes and types of the checkpoints.
    """

    window: tuple[int | None, ...]
    checkpoints: bool = False
    shapes: tuple[SpanShape, ...] = ()
    states: tuple[tuple[tuple[int, ...], str] | None, ...] = ()

    def fit(self, segment: Segment) -> bool:
        """Whether ``segment``, which came from a file, is one of this model's."""
        spans = [(*span.data.shape, str(span.data.dtype)) for span in segment.spans]
        wanted = [
            (shape.members, shape.heads, segment.stop - span.first, shape.size, shape.dtype)
            for shape, span in zip(self.shapes, segment.spans, strict=False)
        ]
        checkpoints = tuple(
            None if checkpoint is None else (tuple(checkpoint.shape), str(checkpoint.dtype))
            for checkpoint in segment.checkpoints
        )
        return len(segment.spans) == len(self.shapes) and spans == wanted and checkpoints in ((), self.states)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token in all spans together."""
        return sum(shape.members * shape.heads * shape.size * _width(shape.dtype) for shape in self.shapes)

    @property
    def window_evicts(self) -> bool:
        """Whether rows lose entries that other rows could begin with, because a window has left them behind."""
        return any(window is not None for window in self.window) and not self.checkpoints


class Piece(NamedTuple):
    """A run of cached tokens of a prompt, ``start`` to ``stop``, all in segment ``number``.

    ``firsts`` says for each span at which token its entries begin; ``checkpointed``, whether the segment has the states
    after token ``stop``.
    """

    number: int
    start: int
    stop: int
    firsts: tuple[int, ...]
    checkpointed: bool = False


def joined(blocks: Iterable[Piece]) -> list[Piece]:
    """Join neighbouring blocks of one segment to one piece each."""
    pieces: list[Piece] = []
    for block in blocks:
        same = pieces and pieces[-1].number == block.number
        pieces.append(block._replace(start=pieces.pop().start) if same else block)
    return pieces


def usable(pieces: list[Piece], spec: CacheSpec, most: int) -> int:
    """Return how many tokens need not be computed, at most ``most``; ``pieces`` have no gaps from token 0 on."""
    for position in _positions(pieces, spec, most):
        if position < LEAST_TOKENS:
            break
        if all(_reaches_back(pieces, span, position, window) for span, window in enumerate(spec.window)):
            return position
    return 0


def _positions(pieces: list[Piece], spec: CacheSpec, most: int) -> Iterator[int]:
    """The positions at which a row may be able to go on, the furthest first."""
    if spec.checkpoints:
        yield from (piece.stop for piece in reversed(pieces) if piece.checkpointed and piece.stop <= most)
        return
    furthest = min(pieces[-1].stop, most) if pieces else 0
    yield furthest
    yield from range((furthest - 1) // BLOCK * BLOCK, 0, -BLOCK)


def _reaches_back(pieces: list[Piece], span: int, position: int, window: int | None) -> bool:
    """Whether all entries within ``window`` of the token at ``position`` are there, without a gap."""
    wanted = 0 if window is None else max(0, position - window)
    for piece in reversed(pieces):
        if piece.start >= position:
            continue
        first = max(piece.start, piece.firsts[span])
        if first <= wanted:
            return True
        if first > piece.start:
            return False
    return wanted >= position

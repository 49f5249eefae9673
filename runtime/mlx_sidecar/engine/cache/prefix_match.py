"""How much of a prompt can be gone on from, given what is cached of it. Pure: numbers only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .segment import BLOCK, Segment

# What fewer tokens save is not worth a copy.
LEAST_TOKENS = 16


class SpanShape(NamedTuple):
    """What a span holds for each token: ``members`` times ``heads`` rows of ``size`` numbers."""

    members: int
    heads: int
    size: int
    dtype: str


def _width(dtype: str) -> int:
    """Bytes of a number of a type such as ``mlx.core.bfloat16``."""
    return int("".join(filter(str.isdigit, dtype.rpartition(".")[2])) or 8) // 8


class CacheSpec(NamedTuple):
    """What a model needs to go on at a position.

    ``window``, for each span of a segment: how many entries before the position, None for all. ``checkpoints``: also
    the states of layers that keep nothing else, which are there only where a checkpoint was made. ``shapes`` are of the
    spans, and ``states`` of the checkpoints, with their types.
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
        """What a token takes in all spans together."""
        return sum(shape.members * shape.heads * shape.size * _width(shape.dtype) for shape in self.shapes)

    @property
    def window_evicts(self) -> bool:
        """Whether a row loses entries that others could begin with: those that a window has left behind."""
        return any(window is not None for window in self.window) and not self.checkpoints


class Piece(NamedTuple):
    """Tokens ``start`` to ``stop`` of a prompt, cached as part of segment ``number``: from ``firsts`` on in each span.

    ``checkpointed``: the states after token ``stop`` are there.
    """

    number: int
    start: int
    stop: int
    firsts: tuple[int, ...]
    checkpointed: bool = False


def joined(blocks: Iterable[Piece]) -> list[Piece]:
    """Blocks that follow each other, those of one segment as one piece."""
    pieces: list[Piece] = []
    for block in blocks:
        same = pieces and pieces[-1].number == block.number
        pieces.append(block._replace(start=pieces.pop().start) if same else block)
    return pieces


def usable(pieces: list[Piece], spec: CacheSpec, most: int) -> int:
    """How many tokens, at most ``most``, need not be computed again; ``pieces`` follow each other from the first on."""
    for position in _positions(pieces, spec, most):
        if position < LEAST_TOKENS:
            break
        if all(_reaches_back(pieces, span, position, window) for span, window in enumerate(spec.window)):
            return position
    return 0


def _positions(pieces: list[Piece], spec: CacheSpec, most: int) -> Iterator[int]:
    """Where it may be possible to go on, the furthest first."""
    if spec.checkpoints:
        yield from (piece.stop for piece in reversed(pieces) if piece.checkpointed and piece.stop <= most)
        return
    furthest = min(pieces[-1].stop, most) if pieces else 0
    yield furthest
    yield from range((furthest - 1) // BLOCK * BLOCK, 0, -BLOCK)


def _reaches_back(pieces: list[Piece], span: int, position: int, window: int | None) -> bool:
    """Whether all entries that the token at ``position`` sees are there, without a gap."""
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

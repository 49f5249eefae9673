"""How much of a prompt can be gone on from, given what is cached of it. Pure: numbers only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .segment import BLOCK, Extent

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


class Needs(NamedTuple):
    """What a model needs to go on at a position.

    ``sees``, for each span of an extent: how many entries before the position, None for all. ``marks``: also the states
    of layers that keep nothing else, which are there only where somebody marked them. ``shapes`` are of the spans, and
    ``states`` of the marks, with their types.
    """

    sees: tuple[int | None, ...]
    marks: bool = False
    shapes: tuple[SpanShape, ...] = ()
    states: tuple[tuple[tuple[int, ...], str] | None, ...] = ()

    def fit(self, extent: Extent) -> bool:
        """Whether ``extent``, which came from a file, is one of this model's."""
        spans = [(*span.data.shape, str(span.data.dtype)) for span in extent.spans]
        wanted = [
            (shape.members, shape.heads, extent.stop - span.first, shape.size, shape.dtype)
            for shape, span in zip(self.shapes, extent.spans, strict=False)
        ]
        marks = tuple(None if mark is None else (tuple(mark.shape), str(mark.dtype)) for mark in extent.marks)
        return len(extent.spans) == len(self.shapes) and spans == wanted and marks in ((), self.states)

    @property
    def token_bytes(self) -> int:
        """What a token takes in all spans together."""
        return sum(shape.members * shape.heads * shape.size * _width(shape.dtype) for shape in self.shapes)

    @property
    def fades(self) -> bool:
        """Whether a row loses entries that others could begin with: those that a window has left behind."""
        return any(sees is not None for sees in self.sees) and not self.marks


class Piece(NamedTuple):
    """Tokens ``start`` to ``stop`` of a prompt, cached as part of extent ``number``: from ``firsts`` on in each span.

    ``marked``: the states after token ``stop`` are there.
    """

    number: int
    start: int
    stop: int
    firsts: tuple[int, ...]
    marked: bool = False


def joined(blocks: Iterable[Piece]) -> list[Piece]:
    """Blocks that follow each other, those of one extent as one piece."""
    pieces: list[Piece] = []
    for block in blocks:
        same = pieces and pieces[-1].number == block.number
        pieces.append(block._replace(start=pieces.pop().start) if same else block)
    return pieces


def usable(pieces: list[Piece], needs: Needs, most: int) -> int:
    """How many tokens, at most ``most``, need not be computed again; ``pieces`` follow each other from the first on."""
    for position in _positions(pieces, needs, most):
        if position < LEAST_TOKENS:
            break
        if all(_reaches_back(pieces, span, position, sees) for span, sees in enumerate(needs.sees)):
            return position
    return 0


def _positions(pieces: list[Piece], needs: Needs, most: int) -> Iterator[int]:
    """Where it may be possible to go on, the furthest first."""
    if needs.marks:
        yield from (piece.stop for piece in reversed(pieces) if piece.marked and piece.stop <= most)
        return
    furthest = min(pieces[-1].stop, most) if pieces else 0
    yield furthest
    yield from range((furthest - 1) // BLOCK * BLOCK, 0, -BLOCK)


def _reaches_back(pieces: list[Piece], span: int, position: int, sees: int | None) -> bool:
    """Whether all entries that the token at ``position`` sees are there, without a gap."""
    wanted = 0 if sees is None else max(0, position - sees)
    for piece in reversed(pieces):
        if piece.start >= position:
            continue
        first = max(piece.start, piece.firsts[span])
        if first <= wanted:
            return True
        if first > piece.start:
            return False
    return wanted >= position

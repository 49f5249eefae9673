"""How much of a prompt can be gone on from, given what is cached of it. Pure: numbers only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .extent import BLOCK

# What fewer tokens save is not worth a copy.
LEAST_TOKENS = 16


class Needs(NamedTuple):
    """What a model needs to go on at a position.

    ``sees``, for each span of an extent: how many entries before the position, None for all. ``marks``: also the states
    of layers that keep nothing else, which are there only where somebody marked them.
    """

    sees: tuple[int | None, ...]
    marks: bool = False

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

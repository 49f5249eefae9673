"""What is cached of a run of tokens: keys and values of each layer, and the state of layers that have no keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the loop knows segments, and serves the fake engine as well
    import mlx.core as mx

BLOCK = 64
"""Tokens of a block: the unit that has a name, is shared, and is found again."""

SEGMENT_BYTES = 4 << 20
"""A segment of several blocks has no more: one is read back while the interpreter is held, a millisecond a megabyte."""


def runs(start: int, stop: int, token_bytes: int) -> list[tuple[int, int]]:
    """Tokens ``start``, where a block begins, to ``stop`` as the runs of blocks that make a segment each."""
    most = max(1, SEGMENT_BYTES // max(1, token_bytes * BLOCK)) * BLOCK
    return [(begin, min(begin + most, stop)) for begin in range(start, stop, most)]


class Span(NamedTuple):
    """Entries of layers that see equally far and have one shape, for the tokens from ``first`` to the segment's end.

    ``data`` [members, heads, tokens, size], evaluated: a member is the keys or the values of a layer.
    """

    first: int
    data: mx.array


class Segment(NamedTuple):
    """Tokens ``start`` to ``stop`` of a prompt; ``start`` is where a block begins, ``stop`` may lie within one.

    ``checkpoints`` are the states after token ``stop`` of layers whose state is not one of tokens (recurrent ones):
    None for an array that a layer does not use, and empty where there are no such layers or nobody looked at ``stop``.
    """

    start: int
    stop: int
    spans: tuple[Span, ...]
    checkpoints: tuple[mx.array | None, ...] = ()

    @property
    def nbytes(self) -> int:
        arrays = [
            *(span.data for span in self.spans),
            *(state for state in self.checkpoints if state is not None),
        ]
        return sum(array.nbytes for array in arrays)

"""Segments: the keys and values of each layer for a run of tokens, and the states of layers that have no keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:  # the loop knows segments, and runs the fake engine too, which has no mlx
    import mlx.core as mx

BLOCK = 64
"""Tokens of a block, the unit that is named, shared and found."""

SEGMENT_BYTES = 4 << 20
"""Limit of a segment of several blocks: reading one back holds the interpreter for a millisecond per megabyte."""


def runs(start: int, stop: int, token_bytes: int) -> list[tuple[int, int]]:
    """Split tokens ``start`` to ``stop`` into runs of blocks, one for each segment; a block begins at ``start``."""
    most = max(1, SEGMENT_BYTES // max(1, token_bytes * BLOCK)) * BLOCK
    return [(begin, min(begin + most, stop)) for begin in range(start, stop, most)]


class Entries(Protocol):
    """The keys and values of layers with one window and one shape, for tokens ``first`` to the segment's end."""

    @property
    def first(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes that are held for it."""
        ...

    @property
    def data(self) -> mx.array:
        """All of them: [members, heads, tokens, size]; a member is the keys or the values of one layer."""
        ...

    @property
    def last(self) -> mx.array:
        """Those of the last member: [heads, tokens, size]."""
        ...


class Span(NamedTuple):
    """``Entries`` as one array ``data`` of mlx, evaluated."""

    first: int
    data: mx.array

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    @property
    def last(self) -> mx.array:
        return self.data[-1]


class Segment(NamedTuple):
    """The cached state of tokens ``start`` to ``stop`` of a prompt; a block begins at ``start``, and may at ``stop``.

    ``checkpoints`` are the states of recurrent layers after token ``stop``: None for an array that a layer does not
    use. They are empty where the model has no such layers, or no checkpoint was made at ``stop``.
    """

    start: int
    stop: int
    spans: tuple[Entries, ...]
    checkpoints: tuple[mx.array | None, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all that it holds."""
        spans = sum(span.nbytes for span in self.spans)
        return spans + sum(state.nbytes for state in self.checkpoints if state is not None)

"""A conversation as one segment, which is how a file that a host exports holds it."""

from __future__ import annotations

from array import array

import mlx.core as mx

from .prefixes import Prefixes, PrefixMatch
from .segment import Segment, Span


def conversation(prefixes: Prefixes, tokens: array[int]) -> Segment | None:
    """Join what is in memory of ``tokens`` to one segment from the first token on; None if nothing is."""
    match = prefixes.find(array("i", [*tokens, 0]))
    if not match.length:
        return None
    spans = tuple(_span(match, number, window) for number, window in enumerate(prefixes.spec.window))
    segment = Segment(0, match.length, spans, match.checkpoints)
    settle(segment)
    return segment


def _span(match: PrefixMatch, number: int, window: int | None) -> Span:
    first = 0 if window is None else max(0, match.length - window)
    return Span(first, mx.concatenate([part for _, part in match.entries(number, first)], axis=2))


def settle(segment: Segment) -> None:
    """Wait until ``segment`` is computed, because then any thread may read it."""
    mx.eval(
        [span.data for span in segment.spans if isinstance(span, Span)],  # others wait when they are read
        [state for state in segment.checkpoints if state is not None],
    )

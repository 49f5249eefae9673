"""A conversation in one piece, as a file holds it that a host exports."""

from __future__ import annotations

from array import array

import mlx.core as mx

from .extent import Extent, Span
from .prefixes import Hit, Prefixes


def joined(prefixes: Prefixes, tokens: array[int]) -> Extent | None:
    """All that is in memory of ``tokens`` as one extent from the first token on; None if that is nothing."""
    hit = prefixes.find(array("i", [*tokens, 0]))
    if not hit.count:
        return None
    spans = tuple(_span(hit, number, sees) for number, sees in enumerate(prefixes.needs.sees))
    mx.eval([span.data for span in spans])
    return Extent(0, hit.count, spans, hit.marks)


def _span(hit: Hit, number: int, sees: int | None) -> Span:
    first = 0 if sees is None else max(0, hit.count - sees)
    return Span(first, mx.concatenate([part for _, part in hit.entries(number, first)], axis=2))

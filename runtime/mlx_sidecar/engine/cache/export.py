"""Extents made and waited for: a conversation in one piece, as a file holds it that a host exports."""

from __future__ import annotations

from array import array

import mlx.core as mx

from .prefixes import Hit, Prefixes
from .segment import Extent, Span


def conversation(prefixes: Prefixes, tokens: array[int]) -> Extent | None:
    """All that is in memory of ``tokens`` as one extent from the first token on; None if that is nothing."""
    hit = prefixes.find(array("i", [*tokens, 0]))
    if not hit.length:
        return None
    spans = tuple(_span(hit, number, sees) for number, sees in enumerate(prefixes.needs.sees))
    extent = Extent(0, hit.length, spans, hit.marks)
    settle(extent)
    return extent


def _span(hit: Hit, number: int, sees: int | None) -> Span:
    first = 0 if sees is None else max(0, hit.length - sees)
    return Span(first, mx.concatenate([part for _, part in hit.entries(number, first)], axis=2))


def settle(extent: Extent) -> None:
    """Wait until ``extent`` is computed: then any thread may read it."""
    mx.eval([span.data for span in extent.spans], [mark for mark in extent.marks if mark is not None])

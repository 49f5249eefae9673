"""Attention within each of many texts that lie one behind the other; nothing is padded.

A product is of one text, or of several that are equally long, and its shape depends on their length alone. So the sums
of a text are those that it has alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import mlx.core as mx

# Scores [texts, heads, queries, keys] that are computed at once, and the least number of queries among them.
_SCORES = 4 << 20
_LEAST_QUERIES = 64


@dataclass(frozen=True, slots=True)
class Run:
    """``count`` texts of ``length`` tokens each, from token ``start`` on."""

    start: int
    count: int
    length: int


class Attention(NamedTuple):
    """How a layer attends. A token sees those at most ``window`` away, 0: all; ``rope``: its base, 0 without."""

    heads: int
    window: int = 0
    rope: float = 0.0


def runs_of(lengths: Iterable[int]) -> list[Run]:
    """The runs of texts of these ``lengths``, one behind the other: equally long ones side by side are one."""
    runs: list[Run] = []
    start = 0
    for length, group in groupby(lengths):
        count = len(list(group))
        runs.append(Run(start, count, length))
        start += count * length
    return runs


def attend(qkv: mx.array, runs: list[Run], how: Attention) -> mx.array:
    """Attend within each text. ``qkv`` is [tokens, 3 × width]; the result is [tokens, width]."""
    parts = [_attend_run(qkv, part, how) for run in runs for part in _parts(run, how.heads)]
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)


def _parts(run: Run, heads: int) -> Iterator[Run]:
    """Cut ``run`` into runs of so many texts as are computed at once."""
    most = max(1, _SCORES // (heads * run.length * _queries(heads, run.length)))
    for first in range(0, run.count, most):
        yield Run(run.start + first * run.length, min(most, run.count - first), run.length)


def _queries(heads: int, length: int) -> int:
    return min(length, max(_LEAST_QUERIES, _SCORES // (heads * length)))


def _attend_run(qkv: mx.array, run: Run, how: Attention) -> mx.array:
    width = qkv.shape[1] // 3
    size = width // how.heads
    own = qkv[run.start : run.start + run.count * run.length]
    queries, keys, values = own.reshape(run.count, run.length, 3, how.heads, size).transpose(2, 0, 3, 1, 4)
    if how.rope:
        queries, keys = (
            mx.fast.rope(each, size, traditional=False, base=how.rope, scale=1.0, offset=0) for each in (queries, keys)
        )
    step = _queries(how.heads, run.length)
    blocks = [
        _attend_block(queries, keys, values, begin, min(run.length, begin + step), how.window)
        for begin in range(0, run.length, step)
    ]
    out = blocks[0] if len(blocks) == 1 else mx.concatenate(blocks, axis=2)
    return out.swapaxes(1, 2).reshape(-1, width)


def _attend_block(queries: mx.array, keys: mx.array, values: mx.array, begin: int, end: int, window: int) -> mx.array:
    """Attend with the queries ``begin`` to ``end`` of arrays [texts, heads, tokens, size]."""
    length = keys.shape[2]
    first, last = (max(0, begin - window), min(length, end + window)) if window else (0, length)
    mask = _mask(begin, end, first, last, window) if window and last - first > window + 1 else None
    asked, known, said = queries[:, :, begin:end], keys[:, :, first:last], values[:, :, first:last]
    scale = queries.shape[-1] ** -0.5
    if mx.default_device().type != mx.DeviceType.cpu:
        return mx.fast.scaled_dot_product_attention(asked, known, said, scale=scale, mask=mask)
    # There mlx's own goes through the keys once for each head.
    scores = (asked * scale) @ known.swapaxes(-1, -2)
    if mask is not None:
        scores = mx.where(mask, scores, mx.array(-mx.inf, scores.dtype))
    return mx.softmax(scores, axis=-1, precise=True) @ said


def _mask(begin: int, end: int, first: int, last: int, window: int) -> mx.array:
    return mx.abs(mx.arange(begin, end)[:, None] - mx.arange(first, last)[None]) <= window

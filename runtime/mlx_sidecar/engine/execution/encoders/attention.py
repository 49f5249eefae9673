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
    """How a layer attends. A token sees those at most ``window`` away, 0: all; ``rope``: its base, 0 without.

    ``scale`` multiplies the scores; 0: that of the size of a head.
    """

    window: int = 0
    rope: float = 0.0
    scale: float = 0.0


def runs_of(lengths: Iterable[int]) -> list[Run]:
    """The runs of texts of these ``lengths``, one behind the other: equally long ones side by side are one."""
    runs: list[Run] = []
    start = 0
    for length, group in groupby(lengths):
        count = len(list(group))
        runs.append(Run(start, count, length))
        start += count * length
    return runs


def attend(queries: mx.array, keys: mx.array, values: mx.array, runs: list[Run], how: Attention) -> mx.array:
    """Attend within each text; the result is [tokens, width].

    ``queries`` are [tokens, heads, size], ``keys`` and ``values`` the same with as many heads or a divisor of them.
    """
    parts = [_attend_run((queries, keys, values), part, how) for run in runs for part in _parts(run, queries.shape[1])]
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)


def in_heads(qkv: mx.array, heads: int) -> tuple[mx.array, mx.array, mx.array]:
    """Queries, keys and values [tokens, heads, size] of [tokens, 3 × width]."""
    each = qkv.reshape(len(qkv), 3, heads, -1)
    return each[:, 0], each[:, 1], each[:, 2]


def _parts(run: Run, heads: int) -> Iterator[Run]:
    """Cut ``run`` into runs of so many texts as are computed at once."""
    most = max(1, _SCORES // (heads * run.length * _queries(heads, run.length)))
    for first in range(0, run.count, most):
        yield Run(run.start + first * run.length, min(most, run.count - first), run.length)


def _queries(heads: int, length: int) -> int:
    return min(length, max(_LEAST_QUERIES, _SCORES // (heads * length)))


def _attend_run(given: tuple[mx.array, mx.array, mx.array], run: Run, how: Attention) -> mx.array:
    heads, size = given[0].shape[1:]
    own = slice(run.start, run.start + run.count * run.length)
    queries, keys, values = (each[own].reshape(run.count, run.length, -1, size).transpose(0, 2, 1, 3) for each in given)
    if how.rope:
        queries, keys = (
            mx.fast.rope(each, size, traditional=False, base=how.rope, scale=1.0, offset=0) for each in (queries, keys)
        )
    step = _queries(heads, run.length)
    blocks = [
        _attend_block(queries, keys, values, begin, min(run.length, begin + step), how)
        for begin in range(0, run.length, step)
    ]
    out = blocks[0] if len(blocks) == 1 else mx.concatenate(blocks, axis=2)
    return out.swapaxes(1, 2).reshape(-1, heads * size)


def _attend_block(
    queries: mx.array, keys: mx.array, values: mx.array, begin: int, end: int, how: Attention
) -> mx.array:
    """Attend with the queries ``begin`` to ``end`` of arrays [texts, heads, tokens, size]."""
    length, window = keys.shape[2], how.window
    first, last = (max(0, begin - window), min(length, end + window)) if window else (0, length)
    mask = _mask(begin, end, first, last, window) if window and last - first > window + 1 else None
    asked, known, said = queries[:, :, begin:end], keys[:, :, first:last], values[:, :, first:last]
    scale = how.scale or queries.shape[-1] ** -0.5
    if mx.default_device().type != mx.DeviceType.cpu:
        return mx.fast.scaled_dot_product_attention(asked, known, said, scale=scale, mask=mask)
    # There mlx's own goes through the keys once for each head. Heads that share keys are one product.
    texts, heads, _, size = asked.shape
    shared = (texts, known.shape[1], heads // known.shape[1] * (end - begin))
    scores = (asked * scale).reshape(*shared, size) @ known.swapaxes(-1, -2)
    if mask is not None:
        apart = scores.reshape(texts, heads, end - begin, last - first)
        scores = mx.where(mask, apart, mx.array(-mx.inf, scores.dtype)).reshape(scores.shape)
    return (mx.softmax(scores, axis=-1, precise=True) @ said).reshape(asked.shape)


def _mask(begin: int, end: int, first: int, last: int, window: int) -> mx.array:
    return mx.abs(mx.arange(begin, end)[:, None] - mx.arange(first, last)[None]) <= window

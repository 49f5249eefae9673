"""Filters drop tokens by top-k, top-p and min-p, for rows that are filtered alike.

Rows come shifted so that their likeliest token is at 0. The weight of a token is its probability in whole multiples of
2^-30 of the likeliest one's. So sums of weights are exact: neither the order of summation nor the batch nor the device
decides where a nucleus ends. Top-p keeps the shortest head whose weight reaches ``top_p`` of the total, in float32
(at least the likeliest token). Tokens that are equal to the last one kept (for top-p: in weight) are kept too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import mlx.core as mx

from ....link.messages import Sampling

_UNIT = float(2**30)
# Rows with a smaller top-k share one partition of this size.
_LEAST_HEAD = 64
# On a CPU a partition is cheap and a sort is not: the nucleus of 151,936 tokens is found by halving in 2 ms, by a sort
# in 12 to 24, by bisection in 20. Arrays no longer than this are sorted: 256 to 1024 are as good as each other.
# On other devices a partition is a sort.
_SORTED_AT_ONCE = 512


class FilterKind(NamedTuple):
    """How a row is filtered; rows of one kind are filtered together. It depends on the row's own parameters alone."""

    head: int = 0  # how many of the likeliest tokens to look at for top-k; 0 without
    nucleus: bool = False  # top-p over the whole vocabulary
    floor: bool = False  # min-p alone


def filter_kind(sampling: Sampling, vocabulary: int) -> FilterKind:
    """Return how a row with these parameters is filtered."""
    if 0 < sampling.top_k < vocabulary:
        head = max(_LEAST_HEAD, 1 << (sampling.top_k - 1).bit_length())
        return FilterKind(head=min(head, vocabulary))
    if sampling.top_p < 1:
        return FilterKind(nucleus=True)
    return FilterKind(floor=sampling.min_p > 0)


class Filter:
    """The parameters of rows of one kind, as columns [rows, 1]."""

    def __init__(self, kind: FilterKind, rows: list[Sampling]) -> None:
        self._kind = kind
        self._floor = column([math.log(row.min_p) if row.min_p > 0 else -math.inf for row in rows])
        self._top_p = column([row.top_p for row in rows])
        self._first = mx.array([[kind.head - row.top_k] for row in rows])  # of the top-k tokens among the head's
        self._any_top_p = any(row.top_p < 1 for row in rows)
        self._sorted_at_once = _SORTED_AT_ONCE if mx.default_device() == mx.Device(mx.cpu) else 2**62

    def dropped(self, shifted: mx.array) -> mx.array | None:
        """Return which tokens are dropped of ``shifted`` [rows, vocabulary], float32: bool of that shape.

        None if no token of any row is.
        """
        if self._kind.head:
            return shifted < mx.maximum(self._floor, self._head_floor(shifted))
        if self._kind.nucleus:
            weights = _weights(shifted)
            last = self._last_weight(weights, _share(weights, self._top_p))
            return (weights < last) | (shifted < self._floor)
        return shifted < self._floor if self._kind.floor else None

    def _head_floor(self, shifted: mx.array) -> mx.array:
        """The lowest value that top-k, and then top-p of its rest, leaves: [rows, 1]."""
        size, head = shifted.shape[-1], self._kind.head
        ranked = mx.sort(mx.partition(shifted, size - head, axis=-1)[:, size - head :], axis=-1)
        by_rank = mx.take_along_axis(ranked, self._first, axis=-1)
        if not self._any_top_p:
            return by_rank
        weights = mx.where(mx.arange(head) >= self._first, _weights(ranked), 0)
        last = _last_of_sorted(weights, _share(weights, self._top_p))
        by_mass = mx.take_along_axis(ranked, mx.sum(weights < last, axis=-1, keepdims=True), axis=-1)
        return mx.where(self._top_p < 1, by_mass, by_rank)

    def _last_weight(self, weights: mx.array, share: mx.array) -> mx.array:
        """The weight of the last token of the shortest head that holds ``share``: [rows, 1].

        The weights are halved until they can be sorted: the head ends in the upper half if that holds the share, else
        in the lower one, of which the rest of the share is then wanted. With an odd count the middle is in both halves,
        which does no harm: in the upper half it is beyond the end of the head, in the lower it comes first.
        """
        while (count := weights.shape[-1]) > self._sorted_at_once:
            half, rest = count // 2, count - count // 2
            weights = mx.partition(weights, rest, axis=-1)
            above = mx.sum(weights[:, rest:].astype(mx.int64), axis=-1, keepdims=True)
            upper = above >= share
            weights = mx.where(upper, weights[:, half:], weights[:, :rest])
            share = share - mx.where(upper, 0, above)
        return _last_of_sorted(mx.sort(weights, axis=-1), share)


def column(values: list[float]) -> mx.array:
    """Return ``values`` as a column: [len(values), 1], float32."""
    return mx.array([[value] for value in values], dtype=mx.float32)


def _weights(shifted: mx.array) -> mx.array:
    return (mx.exp(shifted) * _UNIT).astype(mx.int32)


def _share(weights: mx.array, top_p: mx.array) -> mx.array:
    """The weight that a nucleus has to hold: [rows, 1], int64; at least 1, so that no nucleus is empty."""
    total = mx.sum(weights.astype(mx.int64), axis=-1, keepdims=True)
    return mx.clip((total.astype(mx.float32) * top_p).astype(mx.int64), 1, total)


def _last_of_sorted(weights: mx.array, share: mx.array) -> mx.array:
    """Of ascending weights [rows, n], the largest whose sum with all after it reaches ``share``: [rows, 1]."""
    heads = mx.cumsum(weights.astype(mx.int64), axis=-1, reverse=True)
    return mx.take_along_axis(weights, mx.sum(heads >= share, axis=-1, keepdims=True) - 1, axis=-1)

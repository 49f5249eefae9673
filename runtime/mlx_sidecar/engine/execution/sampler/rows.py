"""Rows: what the sampler knows of each, and a choice of an array's."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from ....link.messages import Sampling
from .filters import FilterKind


class Row(NamedTuple):
    """The sampler's record of a row while it is open."""

    sampling: Sampling  # within float32
    stream: int  # of noise
    filter_kind: FilterKind | None  # None: greedy
    changed_by: tuple[bool, ...]  # for each logits processor


class Rows:
    """Some rows of arrays [of, ...], in any order; taking all of them in order copies nothing."""

    def __init__(self, indices: list[int], of: int) -> None:
        self._count = len(indices)
        self._all = indices == list(range(of))
        self._indices = mx.array(indices, dtype=mx.int32)

    def __len__(self) -> int:
        return self._count

    def of(self, array: mx.array) -> mx.array:
        """Return the rows of ``array``: [rows, ...]."""
        return array if self._all else array[self._indices]

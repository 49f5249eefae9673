"""A choice of an array's rows."""

from __future__ import annotations

import mlx.core as mx


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

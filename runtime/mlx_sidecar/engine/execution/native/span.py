"""A span whose keys and values lie in blocks of native code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx

from ...cache.prefix_match import SpanShape

if TYPE_CHECKING:
    from mlx_sidecar_native._native import cpu


class NativeSpan:
    """``Entries`` by reference: its blocks live as long as it, and are copied when they are read, by any thread."""

    def __init__(self, blocks: cpu.Blocks, shape: SpanShape) -> None:
        self.blocks = blocks
        self._shape = shape

    @property
    def first(self) -> int:
        return self.blocks.start

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks: whole ones, whether it has all of their tokens or not."""
        return self.blocks.nbytes

    @property
    def data(self) -> mx.array:
        return self._read(0)

    @property
    def last(self) -> mx.array:
        return self._read(self._shape.members - 1)[0]

    def _read(self, member: int) -> mx.array:
        blocks = self.blocks
        return mx.array(blocks.read(member, self._shape.members, blocks.start, blocks.stop))

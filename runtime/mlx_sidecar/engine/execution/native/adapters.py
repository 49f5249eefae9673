"""Adapters of rows that native code computes: it has copies of their matrices, and adds what they give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.adapter import Pairs, Projection
from ..row_adapters import RowAdapters

if TYPE_CHECKING:
    from mlx_sidecar_native._native import cpu

_STEP = 8  # ranks are filled up with zeros to a multiple of it, which the kernels need


class NativeAdapters(RowAdapters):
    """``AdaptedRows`` of a decoder. A step that runs keeps its adapters."""

    def __init__(
        self, kernels: Any, decoder: cpu.Decoder, projections: Mapping[str, Projection], numbers: Mapping[str, int]
    ) -> None:
        """``numbers`` are those of the decoder's projections, by their paths in the model."""
        super().__init__()
        self._kernels = kernels
        self._decoder = decoder
        self.projections = projections
        self._numbers = numbers
        self._adapters: dict[str, cpu.Adapter] = {}

    def attach(self, adapter: str, pairs: Pairs) -> None:
        made: cpu.Adapter = self._kernels.Adapter()
        for path, pair in pairs.items():
            made.add(self._numbers[path], _filled(pair.a, 0), _filled(pair.b, 1))
        self._adapters[adapter] = made
        self.held_bytes += made.nbytes

    def detach(self, adapter: str) -> None:
        self.held_bytes -= self._adapters.pop(adapter).nbytes

    def use(self, row: int, adapter: str) -> None:
        self._decoder.adapt(row, self._adapters[adapter])
        super().use(row, adapter)


def _filled(matrix: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return ``matrix`` with zeros at the end of ``axis``, the rank's, up to a multiple of ``_STEP``."""
    widths = [(0, 0), (0, 0)]
    widths[axis] = (0, -matrix.shape[axis] % _STEP)
    return np.ascontiguousarray(np.pad(matrix, widths)) if widths[axis][1] else matrix

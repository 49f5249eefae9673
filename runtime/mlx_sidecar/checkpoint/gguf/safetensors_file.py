"""Writes a safetensors file tensor by tensor, with rows of tensors in any order, so that none is whole in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from ..headers import BYTES_OF_KIND


class Planned(NamedTuple):
    """A tensor of the file: its type in safetensors' spelling, and its shape."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return prod(self.shape[1:]) * BYTES_OF_KIND[self.kind]

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.row_bytes


class SafetensorsFile:
    """A new file at ``path`` with room for ``tensors``. Raises OSError, as do all writes."""

    def __init__(self, path: Path, tensors: Sequence[Planned]) -> None:
        # The widest types first: every tensor is then aligned to its type.
        placed = sorted(tensors, key=lambda each: -BYTES_OF_KIND[each.kind])
        described: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
        self._begins: dict[str, int] = {}
        end = 0
        for each in placed:
            self._begins[each.name], end = end, end + each.nbytes
            offsets = [self._begins[each.name], end]
            described[each.name] = {"dtype": each.kind, "shape": list(each.shape), "data_offsets": offsets}
        header = json.dumps(described, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        self._planned = {each.name: each for each in placed}
        self._data_begin = 8 + len(header)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._write(len(header).to_bytes(8, "little") + header, 0)
        os.ftruncate(self._fd, self._data_begin + end)

    def write_rows(self, name: str, first: int, rows: np.ndarray[Any, np.dtype[Any]]) -> None:
        """Write ``rows`` of the tensor ``name`` from row ``first`` on."""
        at = self._data_begin + self._begins[name] + first * self._planned[name].row_bytes
        self._write(np.ascontiguousarray(rows).data.cast("B"), at)

    def _write(self, data: bytes | memoryview, at: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, at)
            view, at = view[written:], at + written

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                os.fsync(self._fd)
        finally:
            os.close(self._fd)

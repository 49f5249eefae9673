"""Typed access to the metadata of a GGUF file, which remembers what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isnan
from typing import Any

import numpy as np

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

from ..file_numbers import is_count, shown
from .header import Value

_COUNT_LIMIT = 1 << 31
_FLOAT_LIMIT = float(np.finfo(np.float32).max)


class Metadata:
    """The metadata of the GGUF file of model ``name``. Every error names the key.

    A getter without a default raises ModelLoadFailed for a missing key, and each does for a value of another type.
    """

    def __init__(self, name: str, values: Mapping[str, Value]) -> None:
        self.name = name
        self._values = values
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def count(self, key: str, default: int | None = None) -> int:
        """The whole number at ``key``: at least 0, below 2^31."""
        value = self._get(key, default)
        if not is_count(value, _COUNT_LIMIT):
            raise self.damaged(key, f"{shown(value)} is no count")
        return value

    def optional_count(self, key: str) -> int | None:
        return self.count(key) if key in self else None

    def number(self, key: str, default: float | None = None) -> float:
        """The finite number at ``key``. A float32 becomes the shortest decimal that stands for it: 1e-05."""
        value = self._get(key, default)
        if type(value) not in (int, float) or abs(value) > _FLOAT_LIMIT or isnan(value):
            raise self.damaged(key, f"{shown(value)} is no number")
        return float(str(np.float32(value)))

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.damaged(key, f"{shown(value)} is no text")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.damaged(key, f"{shown(value)} is neither true nor false")
        return value

    def texts(self, key: str) -> list[str]:
        value = self._get(key, None)
        if not isinstance(value, list):
            raise self.damaged(key, "it is no array of texts")
        return value

    def numbers(self, key: str, count: int, kinds: str = "iuf") -> np.ndarray[Any, np.dtype[Any]]:
        """The array of ``count`` numbers at ``key``; ``kinds`` are letters of numpy's: int, unsigned, float, bool."""
        value = self._get(key, None)
        if not isinstance(value, np.ndarray) or len(value) != count or value.dtype.kind not in kinds:
            raise self.damaged(key, f"it is no array of {count} numbers")
        return value

    def raw(self, key: str) -> Value | None:
        """The value at ``key`` as it is; None if there is none."""
        self._asked.add(key)
        return self._values.get(key)

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self._values if key.startswith(prefix)]

    def skip(self, keys: Iterable[str]) -> None:
        """Count ``keys`` as asked for, because they say nothing that changes an answer."""
        self._asked.update(keys)

    def refuse_unread(self, prefix: str) -> None:
        """Raise ModelUnsupported naming a key below ``prefix`` that was not asked for.

        Such a key may change what the model computes, so a directory made without it may give other answers.
        """
        unread = [key for key in self.keys(prefix) if key not in self._asked]
        if unread:
            raise self.unsupported(unread[0], f"it is not known (its value: {shown(self._values[unread[0]])})")

    def damaged(self, key: str, because: str) -> ModelLoadFailed:
        return ModelLoadFailed(self.name, f"{key}: {because}")

    def unsupported(self, key: str, because: str) -> ModelUnsupported:
        return ModelUnsupported(self.name, f"{key}: {because}")

    def _get(self, key: str, default: Any) -> Any:
        self._asked.add(key)
        if key not in self._values and default is None:
            raise self.damaged(key, "it is missing")
        return self._values.get(key, default)

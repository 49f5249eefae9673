"""Takes the tensors of an encoder out of its files, by name and shape, and the numbers out of its config."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

from ....checkpoint.file_numbers import is_count, shown
from ....link.control_messages import Dtype
from .activations import PLAIN, Activation, activation

_LIMIT = 1 << 31


class Settings:
    """The config of ``model``. Values of other types than expected are refused by name."""

    def __init__(self, model: str, config: Mapping[str, Any], *, native: bool = False) -> None:
        """``native``: whether native code may compute."""
        self.model = model
        self._config = config
        self._native = native

    def names(self, key: str) -> bool:
        """Whether it has ``key``, be it with the value null."""
        return key in self._config

    def get(self, key: str) -> Any:
        return self._config.get(key)

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number above 0. Raises ModelLoadFailed."""
        value = self._config.get(key, default)
        if not (is_count(value, _LIMIT) and value):
            raise self.broken(key)
        return value

    def number(self, key: str, default: float) -> float:
        """A finite number above 0. Raises ModelLoadFailed."""
        value = self._config.get(key)
        value = default if value is None else value
        if type(value) not in (int, float) or not isfinite(value) or value <= 0:
            raise self.broken(key)
        return float(value)

    def choice(self, key: str, known: Collection[str], default: str) -> str:
        """One of the ``known`` words. Raises ModelUnsupported."""
        value = default if self._config.get(key) is None else self._config[key]
        if not isinstance(value, str) or value not in known:
            raise ModelUnsupported(self.model, f"its {key} is {shown(value)}")
        return value

    def activation(self, key: str) -> Activation:
        """The activation of that name, without one GELU. Raises ModelUnsupported."""
        return activation(self.choice(key, PLAIN, "gelu"), native=self._native)

    def flag(self, key: str, default: bool = False) -> bool:
        value = default if self._config.get(key) is None else self._config[key]
        if not isinstance(value, bool):
            raise self.broken(key)
        return value

    def broken(self, key: str) -> ModelLoadFailed:
        return ModelLoadFailed(self.model, f"config.json: {key} is {shown(self._config.get(key))}")


class Linear(NamedTuple):
    """``weight`` [out, in], and ``bias`` [out] if it has one."""

    weight: mx.array
    bias: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        if self.bias is None:
            return x @ self.weight.T
        return mx.addmm(self.bias, x, self.weight.T)


class Norm(NamedTuple):
    """The layer norm of ``weight`` [width], and ``bias`` [width] if it has one."""

    weight: mx.array
    bias: mx.array | None
    eps: float

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.layer_norm(x, self.weight, self.bias, self.eps)


class Tensors:
    """The lazy ``arrays`` of ``model``, to be computed with in ``dtype``; None: as stored.

    ``taken`` are those that were asked for, as they are computed with.
    """

    def __init__(self, model: str, arrays: Mapping[str, mx.array], dtype: Dtype | None) -> None:
        self.model = model
        self.taken: list[mx.array] = []
        self._arrays = arrays
        self._dtype: mx.Dtype | None = None if dtype is None else getattr(mx, dtype)

    def prefix(self, *prefixes: str, name: str) -> str:
        """The one of ``prefixes`` with which there is a tensor ``name``. Raises ModelLoadFailed."""
        for prefix in prefixes:
            if prefix + name in self._arrays:
                return prefix
        raise ModelLoadFailed(self.model, f"its weights have no {name}")

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._find(name).shape)

    def take(self, name: str, *shape: int) -> mx.array:
        """The tensor ``name``. Raises ModelLoadFailed where there is none, or one of another shape or kind."""
        return self._hold(self._checked(name, shape))

    def linear(self, name: str, out: int, into: int, *, bias: bool = True) -> Linear:
        weight = self.take(f"{name}.weight", out, into)
        return Linear(weight, self.take(f"{name}.bias", out) if bias else None)

    def stacked(self, names: list[str], out: int, into: int) -> Linear:
        """The layers ``names``, with biases, as one with ``out`` rows for each."""
        weights = [self._checked(f"{name}.weight", (out, into)) for name in names]
        biases = [self._checked(f"{name}.bias", (out,)) for name in names]
        return Linear(self._hold(mx.concatenate(weights)), self._hold(mx.concatenate(biases)))

    def norm(self, name: str, width: int, eps: float, *, bias: bool = True) -> Norm:
        """Older checkpoints of BERT call weight and bias gamma and beta."""
        weight, shift = ("weight", "bias") if f"{name}.weight" in self._arrays else ("gamma", "beta")
        scale = self.take(f"{name}.{weight}", width)
        return Norm(scale, self.take(f"{name}.{shift}", width) if bias else None, eps)

    def _hold(self, array: mx.array) -> mx.array:
        held = array if self._dtype is None else array.astype(self._dtype)
        self.taken.append(held)
        return held

    def _checked(self, name: str, shape: tuple[int, ...]) -> mx.array:
        array = self._find(name)
        if tuple(array.shape) != shape or not mx.issubdtype(array.dtype, mx.floating):
            raise ModelLoadFailed(self.model, f"{name} is {array.dtype} {list(array.shape)}, not {list(shape)}")
        return array

    def _find(self, name: str) -> mx.array:
        array = self._arrays.get(name)
        if array is None:
            raise ModelLoadFailed(self.model, f"its weights have no {name}")
        return array

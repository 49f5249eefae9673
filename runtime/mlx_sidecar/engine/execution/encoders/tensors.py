"""Takes the tensors of an encoder out of its files, by name and shape, and the numbers out of its config."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

from ....checkpoint.file_numbers import is_count, shown
from ....link.control_messages import Dtype
from ..packed import Packed, packed_in, stacked
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

    def activation(self, key: str, default: str = "gelu") -> Activation:
        """The activation of that name. Raises ModelUnsupported."""
        return activation(self.choice(key, PLAIN, default), native=self._native)

    def flag(self, key: str, default: bool = False) -> bool:
        value = default if self._config.get(key) is None else self._config[key]
        if not isinstance(value, bool):
            raise self.broken(key)
        return value

    def broken(self, key: str) -> ModelLoadFailed:
        return ModelLoadFailed(self.model, f"config.json: {key} is {shown(self._config.get(key))}")


def heads_of(settings: Settings, width: int) -> int:
    """The heads that share ``width`` evenly. Raises ModelLoadFailed."""
    heads = settings.count("num_attention_heads")
    if width % heads:
        raise settings.broken("num_attention_heads")
    return heads


Weight = mx.array | Packed


class Linear(NamedTuple):
    """``weight`` [out, in], and ``bias`` [out] if it has one."""

    weight: Weight
    bias: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        if isinstance(self.weight, Packed):
            product = self.weight.times(x)
            return product if self.bias is None else product + self.bias
        if self.bias is None:
            return x @ self.weight.T
        return mx.addmm(self.bias, x, self.weight.T)


class Table(NamedTuple):
    """``weight`` [rows, width], of which rows are taken by their numbers."""

    weight: Weight

    def __call__(self, numbers: mx.array) -> mx.array:
        return self.weight.rows(numbers) if isinstance(self.weight, Packed) else self.weight[numbers]

    @property
    def dtype(self) -> mx.Dtype:
        return self.weight.dtype


class Norm(NamedTuple):
    """The layer norm of ``weight`` [width], and ``bias`` [width] if it has one."""

    weight: mx.array
    bias: mx.array | None
    eps: float

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.layer_norm(x, self.weight, self.bias, self.eps)


class RootNorm(NamedTuple):
    """The division by the root of the mean square, times ``weight`` [width], which is float32."""

    weight: mx.array
    eps: float

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, self.weight, self.eps).astype(x.dtype)


class Tensors:
    """The lazy ``arrays`` of ``model``, to be computed with in ``dtype``; None: as stored, packed ones too.

    ``taken`` are those that were asked for, as they are computed with; ``parameters`` their numbers, unpacked.
    """

    def __init__(
        self, model: str, arrays: Mapping[str, mx.array], dtype: Dtype | None, *, quantised: bool = False
    ) -> None:
        """``quantised``: matrices that have scales are packed."""
        self.model = model
        self.taken: list[mx.array] = []
        self.parameters = 0
        self._arrays = arrays
        self._quantised = quantised
        self._dtype: mx.Dtype | None = None if dtype is None else getattr(mx, dtype)

    def prefix(self, *prefixes: str, name: str) -> str:
        """The one of ``prefixes`` with which there is a tensor ``name``. Raises ModelLoadFailed."""
        for prefix in prefixes:
            if prefix + name in self._arrays:
                return prefix
        raise ModelLoadFailed(self.model, f"its weights have no {name}")

    def rows(self, name: str) -> int:
        """The number of rows of the matrix ``name``. Raises ModelLoadFailed."""
        shape = tuple(self._find(f"{name}.weight").shape)
        if len(shape) != 2 or not all(shape):
            raise ModelLoadFailed(self.model, f"{name}.weight is {list(shape)}, not a matrix")
        return shape[0]

    def table(self, name: str, rows: int, width: int) -> Table:
        return Table(self._hold(self._matrix(name, rows, width)))

    def linear(self, name: str, out: int, into: int, *, bias: bool = True) -> Linear:
        weight = self._hold(self._matrix(name, out, into))
        return Linear(weight, self._vector(f"{name}.bias", out) if bias else None)

    def stacked(self, outs: Mapping[str, int], into: int, *, bias: bool = True) -> Linear:
        """The layers of these names, with so many rows each, as one."""
        parts = [self._matrix(name, out, into) for name, out in outs.items()]
        weight = self._hold(_one(parts))
        if not bias:
            return Linear(weight)
        return Linear(
            weight, self._cast(mx.concatenate([self._checked(f"{n}.bias", (out,)) for n, out in outs.items()]))
        )

    def norm(self, name: str, width: int, eps: float, *, bias: bool = True) -> Norm:
        """Older checkpoints of BERT call weight and bias gamma and beta."""
        weight, shift = ("weight", "bias") if f"{name}.weight" in self._arrays else ("gamma", "beta")
        scale = self._vector(f"{name}.{weight}", width)
        return Norm(scale, self._vector(f"{name}.{shift}", width) if bias else None, eps)

    def root_norm(self, name: str, width: int, eps: float) -> RootNorm:
        """A norm of Gemma's, whose weights are stored less 1.

        The sum is float32, because half precision would round it.
        """
        weight = 1.0 + self._checked(f"{name}.weight", (width,)).astype(mx.float32)
        return RootNorm(self._keep(weight), eps)

    def _vector(self, name: str, size: int) -> mx.array:
        return self._cast(self._checked(name, (size,)))

    def _matrix(self, name: str, out: int, into: int) -> Weight:
        packed = packed_in(self.model, self._arrays, name, out, into) if self._quantised else None
        if packed is None:
            return self._checked(f"{name}.weight", (out, into))
        return packed if self._dtype is None else packed.unpacked()

    def _hold(self, weight: Weight) -> Weight:
        if not isinstance(weight, Packed):
            return self._cast(weight)
        self.taken += weight.arrays
        self.parameters += weight.scales.size * weight.group_size
        return weight

    def _cast(self, array: mx.array) -> mx.array:
        return self._keep(array if self._dtype is None else array.astype(self._dtype))

    def _keep(self, array: mx.array) -> mx.array:
        self.taken.append(array)
        self.parameters += array.size
        return array

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


def _one(parts: Sequence[Weight]) -> Weight:
    """One matrix of the rows of ``parts``, packed if all of them are packed in the same way."""
    packed = [each for each in parts if isinstance(each, Packed)]
    if len(packed) == len(parts) and (whole := stacked(packed)) is not None:
        return whole
    dtype = parts[0].dtype
    return mx.concatenate([(each.unpacked() if isinstance(each, Packed) else each).astype(dtype) for each in parts])

"""Proves by logits that native code computes what mlx-lm's own caches give, in float32 and with weights as stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple, cast

import mlx.core as mx
import mlx.nn as nn

from mlx_sidecar_protocol.errors import ModelLoadFailed

from ...core.memory_cost import LayerCost, SequenceCost
from ..interfaces import Model, has_entries, is_window, leaves, new_caches
from ..trial import ALL_SAMPLES, NotFinite, Passes, Trial
from ..unpacking import dequantized
from .forward import NativeForward
from .weights import NotNative

CacheDtype = Literal["float32", "float16"]
_BYTES: Final[dict[CacheDtype, int]] = {"float32": 4, "float16": 2}


class Proven(NamedTuple):
    """The cost of a sequence, the size of the vocabulary, and the forward, as of ``Probed``."""

    cost: SequenceCost
    vocabulary: int
    forward: NativeForward


def prove(
    name: str, model: Model, arithmetic: str, threads: int, cache_dtype: CacheDtype = "float32"
) -> Passes[Proven]:
    """Return the native forward of ``model``, which is evaluated; yields after each pass.

    The comparison leaves out the rounding of activations by ``int8``, and of keys and values by ``float16``.

    Raises ``NotNative`` where it does not know the model or gives other logits than mlx-lm, and ``ModelLoadFailed``
    where these are not finite.
    """
    caches = new_caches(model)
    forward = NativeForward(model, caches, "exact" if arithmetic == "int8" else arithmetic, threads)
    rounds = arithmetic == "int8" or cache_dtype != "float32"
    rounded = NativeForward(model, caches, arithmetic, threads, cache_dtype) if rounds else None
    with in_float32(model):
        logits = model(mx.array([[0]]), cache=caches)  # never evaluated: only shapes are asked of it and of the caches
        trial = Trial(model, logits.shape[-1], unpacked=True)
        try:
            yield from trial.begin()
        except NotFinite as error:
            raise ModelLoadFailed(name, "its logits are not finite, whatever the token") from error
        # Few tokens take other kernels than many.
        for samples in (ALL_SAMPLES, 1):
            if not (yield from trial.passes(forward, samples)):
                raise NotNative("its logits are others than those of mlx-lm")
        # Its logits cannot be those of mlx-lm, but the state is computed as above.
        if rounded is not None and not (yield from trial.runs(rounded)):
            raise NotNative(f"with {arithmetic} arithmetic and a cache in {cache_dtype} its logits are not finite")
    cost = SequenceCost.of(
        LayerCost(
            token_bytes=leaf.nbytes // leaf.keys.shape[2] * _BYTES[cache_dtype] // 4,  # of mlx-lm's float32
            window=leaf.max_size if is_window(leaf) else 0,
            in_blocks=True,
        )
        for leaf in leaves(caches)
        if has_entries(leaf)
    )
    return Proven(cost, logits.shape[-1], rounded or forward)


class _FloatLinear(nn.QuantizedLinear):
    def __call__(self, x: mx.array) -> mx.array:
        product = x @ dequantized(cast("Any", self)).T
        return product + self["bias"] if "bias" in self else product


class _FloatEmbedding(nn.Embedding):
    def __call__(self, x: mx.array) -> mx.array:
        return cast("mx.array", self["weight"][x]).astype(mx.float32)


class _FloatQuantizedEmbedding(nn.QuantizedEmbedding):
    def __call__(self, x: mx.array) -> mx.array:
        scales, biases = (self[part][x].astype(mx.float32) for part in ("scales", "biases"))
        return mx.dequantize(self["weight"][x], scales, biases, group_size=self.group_size, bits=self.bits)

    def as_linear(self, x: mx.array) -> mx.array:
        return x @ dequantized(cast("Any", self)).T


_FLOAT: dict[type[nn.Module], type[nn.Module]] = {
    nn.QuantizedLinear: _FloatLinear,
    nn.Embedding: _FloatEmbedding,
    nn.QuantizedEmbedding: _FloatQuantizedEmbedding,
}


@contextmanager
def in_float32(model: Model) -> Iterator[None]:
    """Let ``model`` compute in float32 with its weights as stored: a matrix is unpacked when it is used, and let go.

    Where activations are float32, mlx multiplies them with half-precision weights in float32. But vectors are cast,
    because some models add to them before.
    """
    changed = [(module, type(module)) for module in model.modules() if type(module) in _FLOAT]
    vectors = [
        (module, name, array)
        for module in model.modules()
        for name, array in module.items()
        if isinstance(array, mx.array) and array.ndim == 1 and mx.issubdtype(array.dtype, mx.floating)
    ]
    try:
        for module, kind in changed:
            module.__class__ = _FLOAT[kind]
        for module, name, array in vectors:
            module[name] = array.astype(mx.float32)
        yield
    finally:
        for module, kind in changed:
            module.__class__ = kind
        for module, name, array in vectors:
            module[name] = array

"""The native forward computes a step on a thread of native code, while Python plans the next one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ....link.control_messages import ForwardName
from ...cache.prefix_match import CacheSpec, SpanShape
from ...cache.prefixes import NOTHING, PrefixMatch
from ...cache.segment import Segment, runs
from ..forward import Hidden, LateOutput, NotTruncatable, StepInput
from ..interfaces import Cache, Model
from ..projections import projections
from .adapters import NativeAdapters
from .span import NativeSpan
from .spec import read_spec
from .weights import NotNative, Weights

if TYPE_CHECKING:
    from mlx_sidecar_native._native import cpu


class NativeForward:
    """``Forward`` for decoders of the llama family, whose weights it reads as they are stored.

    Keys and values lie in blocks of native code that rows and the prefix cache share: a prefix that is found is
    referred to, and copied only in part, where a row goes on within a block.
    """

    name: ForwardName = "native"
    uncacheable = untruncatable = ""
    computes_apart, captured = True, False

    def __init__(
        self, model: Model, caches: Sequence[Cache], arithmetic: str, threads: int, cache_dtype: str = "float32"
    ) -> None:
        """``model`` is evaluated; ``caches`` are mlx-lm's own for it. ``arithmetic``: exact, fast or int8.

        Keys and values are kept as ``cache_dtype``: float32, or float16 to which they are rounded. Raises ``NotNative``
        for a model that it does not know, or where the native part is not built.
        """
        kernels = native_kernels()
        weights = Weights(kernels)
        try:
            spec = read_spec(model, caches, weights, kernels)
            self._decoder: cpu.Decoder = kernels.Decoder(spec, weights.held, threads, arithmetic, cache_dtype)
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # a tree of another shape
            raise NotNative(f"{type(error).__name__}: {error}") from error
        self._model = model  # which owns the weights
        known = projections(model, weights.projections)
        self.adapted_rows = NativeAdapters(kernels, self._decoder, known, weights.numbers)
        self._windows = list(spec.windows)
        self._layers = [[layer for layer in spec.layers if layer.kind == kind] for kind in range(len(self._windows))]
        shapes = tuple(
            SpanShape(2 * len(layers), layers[0].key_heads, layers[0].size, f"mlx.core.{cache_dtype}")
            for layers in self._layers
        )
        self.spec = CacheSpec(tuple(window - 1 if window else None for window in self._windows), shapes=shapes)

    def reset(self) -> None:
        self._decoder.clear()
        self.adapted_rows.reset()

    def restore(self) -> None:
        """Do nothing, because the model is as it was."""

    def open(self, row: int, expected: int, match: PrefixMatch = NOTHING) -> None:
        del expected  # blocks are made when tokens come
        self._decoder.open(row)
        for kind in range(len(self._windows)):
            window = self._windows[kind]
            base = max(0, match.length - window + 1) if window else 0
            for slice_ in match.slices:
                span = slice_.segment.spans[kind]
                start = max(slice_.start, span.first)
                if slice_.stop <= base or start >= slice_.stop:
                    continue
                if isinstance(span, NativeSpan) and self._decoder.adopt(row, span.blocks, start, slice_.stop):
                    continue
                if (entries := slice_.part(kind, start)) is not None:
                    self._decoder.put(row, kind, start, slice_.stop, np.array(entries))
        self._decoder.begin_at(row, match.length)

    def checkpoint_at(self, row: int, position: int) -> None:
        """Do nothing, because other rows can go on wherever there are entries."""

    def close(self, row: int) -> None:
        self._decoder.close(row)
        self.adapted_rows.close(row)

    def capture(self, row: int, start: int, stop: int) -> list[Segment]:
        return [
            Segment(begin, end, tuple(self._spans(row, begin, end)))
            for begin, end in runs(start, stop, self.spec.token_bytes)
        ]

    def _spans(self, row: int, start: int, stop: int) -> Iterator[NativeSpan]:
        for kind, shape in enumerate(self.spec.shapes):
            yield NativeSpan(self._decoder.capture(row, kind, start, stop), shape)

    @property
    def reclaimable_bytes(self) -> int:
        """None: blocks of closed rows are given back at once."""
        return 0

    def release(self) -> None:
        """Give back the memory that steps compute in."""
        self._decoder.release()

    def run(self, step: StepInput) -> LateOutput:
        parts, tokens = step
        numbers = np.array(tokens, dtype=np.int32)
        wanted = [(part.row, part.tokens, part.want.last, isinstance(part.want, Hidden)) for part in parts]
        self._decoder.submit(wanted, numbers)
        return LateOutput(cache(self._decoder.wait))

    def truncate(self, row: int, length: int) -> None:
        if not self._decoder.truncate(row, length):
            raise NotTruncatable(f"a row of {self._decoder.length(row)} tokens cannot be taken back to {length}")


def native_kernels() -> Any:
    """Return the kernels of this processor. Raises ``NotNative`` where there are none."""
    try:
        from mlx_sidecar_native import _native
    except ImportError as error:
        raise NotNative("the native part is not built") from error
    return _native.cpu


def allocated_bytes() -> int:
    """Return the bytes of keys, values and buffers of all decoders of this process."""
    try:
        return int(native_kernels().allocated_bytes())
    except NotNative:
        return 0

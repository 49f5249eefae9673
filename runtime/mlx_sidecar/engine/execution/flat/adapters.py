"""Adapters of rows in the flat forward: while a step with such rows runs, linear layers add what adapters give.

A step without them runs the model as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ...core.adapter import LowRank, Pairs, Projection
from ..interfaces import Model, new_caches
from ..projections import linear_layers, projections, size_of
from ..row_adapters import RowAdapters
from .plan import SHORT_TOKENS


class _Stack(NamedTuple):
    """The matrices of all adapters for one module: ``a`` [adapters, rank, inputs], ``b`` [adapters, outputs, rank].

    Those at 0 are zeros, for tokens without an adapter, and ranks are filled up to the largest with zeros.
    """

    a: mx.array
    b: mx.array


class _Span(NamedTuple):
    """Consecutive tokens: of one adapter, whose number it has; or ``numbers`` [tokens] has those of each."""

    start: int
    stop: int
    number: int
    numbers: mx.array | None


class FlatAdapters(RowAdapters):
    """``AdaptedRows`` of a flat forward."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self._names: list[str] = [""]  # by number; 0 is no adapter
        self._stacks: dict[str, _Stack] = {}  # by path
        self._spans: list[_Span] = []  # of the step that runs
        self._classes: dict[str, type[nn.Module]] = {}  # of modules, by path, while such a step runs

    @property
    def projections(self) -> Mapping[str, Projection]:
        return self._projections

    @cached_property
    def _projections(self) -> dict[str, Projection]:
        return projections(self._model, {path: size_of(module) for path, module in self._modules.items()})

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        """The linear layers that are called once in a pass, with a row of numbers for each token."""
        modules = dict(linear_layers(self._model))
        inputs: dict[str, list[tuple[int, ...]]] = {path: [] for path in modules}

        def noting(path: str, kind: type[nn.Module]) -> type[nn.Module]:
            def call(this: nn.Module, x: mx.array) -> mx.array:
                inputs[path].append(x.shape)
                out: mx.array = kind.__call__(this, x)
                return out

            return _derived(kind, call)

        with _as([(module, noting(path, type(module))) for path, module in modules.items()]):
            # Two rows of a token, as in a step; nothing of it is evaluated.
            self._model(mx.array([[0], [0]]), cache=new_caches(self._model))
        return {path: module for path, module in modules.items() if _is_by_token(inputs[path])}

    def _adapted_class(self, path: str) -> type[nn.Module]:
        if path not in self._classes:
            kind = type(self._modules[path])

            def call(this: nn.Module, x: mx.array) -> mx.array:
                out: mx.array = kind.__call__(this, x)
                return out + self._added(path, x)

            self._classes[path] = _derived(kind, call)
        return self._classes[path]

    def attach(self, adapter: str, pairs: Pairs) -> None:
        number = len(self._names)
        stacks = dict(self._stacks)
        for path in {*stacks, *pairs}:
            stacks[path] = self._with(stacks.get(path), path, pairs.get(path), number)
        self._hold(stacks)
        self._names.append(adapter)

    def detach(self, adapter: str) -> None:
        number = self._names.index(adapter)
        kept = mx.array([at for at in range(len(self._names)) if at != number])
        stacks = {path: _Stack(stack.a[kept], stack.b[kept]) for path, stack in self._stacks.items()}
        self._names.pop(number)
        self._hold(stacks if len(self._names) > 1 else {})

    @contextmanager
    def applied(self, parts: list[tuple[int, int]]) -> Iterator[None]:
        """Let the model compute a step of ``parts``, rows and how many tokens each brings, with their adapters."""
        if not any(row in self._rows for row, _ in parts):
            yield
            return
        numbers = {name: number for number, name in enumerate(self._names)}
        self._spans = list(_spans([(numbers[self._rows.get(row, "")], tokens) for row, tokens in parts]))
        try:
            with _as([(self._modules[path], self._adapted_class(path)) for path in self._stacks]):
                yield
        finally:
            self._spans = []

    def _hold(self, stacks: dict[str, _Stack]) -> None:
        mx.eval([[*stack] for stack in stacks.values()])
        self._stacks = stacks
        self.held_bytes = sum(array.nbytes for stack in stacks.values() for array in stack)

    def _with(self, stack: _Stack | None, path: str, pair: LowRank | None, number: int) -> _Stack:
        """Return ``stack``, which holds ``number`` adapters or is to, with one more."""
        inputs, outputs, _ = self.projections[path]
        rank = 1 if pair is None else pair.a.shape[0]
        old = stack or _Stack(mx.zeros((number, 1, inputs)), mx.zeros((number, outputs, 1)))
        a = mx.zeros((rank, inputs)) if pair is None else mx.array(pair.a)
        b = mx.zeros((outputs, rank)) if pair is None else mx.array(pair.b)
        largest = max(rank, old.a.shape[1])
        return _Stack(
            mx.concatenate([_filled(old.a, 1, largest), _filled(a[None], 1, largest)]),
            mx.concatenate([_filled(old.b, 2, largest), _filled(b[None], 2, largest)]),
        )

    def _added(self, path: str, x: mx.array) -> mx.array:
        """Return what adapters add to the outputs of a module for ``x``, which begins with an axis of tokens."""
        stack = self._stacks[path]
        rows = x.reshape(-1, 1, x.shape[-1]).astype(mx.float32)
        parts = [_product(stack, rows[span.start : span.stop], span) for span in self._spans]
        added = parts[0] if len(parts) == 1 else mx.concatenate(parts)
        return added.reshape(*x.shape[:-1], -1).astype(x.dtype)


def _product(stack: _Stack, rows: mx.array, span: _Span) -> mx.array:
    """Multiply ``rows`` [tokens, 1, inputs]; return [tokens, 1, outputs]."""
    if span.numbers is not None:
        low = mx.gather_mm(rows, stack.a.swapaxes(1, 2), rhs_indices=span.numbers)
        return mx.gather_mm(low, stack.b.swapaxes(1, 2), rhs_indices=span.numbers)
    if span.number == 0:
        return mx.zeros((rows.shape[0], 1, stack.b.shape[1]))
    return ((rows[:, 0] @ stack.a[span.number].T) @ stack.b[span.number].T)[:, None]


def _spans(parts: list[tuple[int, int]]) -> Iterator[_Span]:
    """Split a step: long runs of tokens with one adapter, or none, are spans of their own; others are gathered."""
    runs = [(number, sum(tokens for _, tokens in run)) for number, run in groupby(parts, key=lambda part: part[0])]
    start = 0
    for long, group in groupby(runs, key=lambda run: run[1] > SHORT_TOKENS):
        for stop_runs in [[run] for run in group] if long else [list(group)]:
            stop = start + sum(tokens for _, tokens in stop_runs)
            numbers = [number for number, tokens in stop_runs for _ in range(tokens)]
            yield _Span(start, stop, numbers[0], mx.array(numbers) if len(stop_runs) > 1 else None)
            start = stop


def _filled(array: mx.array, axis: int, size: int) -> mx.array:
    """Return ``array`` with zeros at the end of ``axis``, up to ``size``."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return mx.pad(array, widths) if widths[axis][1] else array


def _is_by_token(inputs: list[tuple[int, ...]]) -> bool:
    return len(inputs) == 1 and inputs[0][:-1] in ((2, 1), (2,))


def _derived(kind: type[nn.Module], call: Callable[[nn.Module, mx.array], mx.array]) -> type[nn.Module]:
    """Return a class that is ``kind`` in everything but its call."""
    return type(kind.__name__, (kind,), {"__call__": call})


@contextmanager
def _as(classes: list[tuple[nn.Module, type[nn.Module]]]) -> Iterator[None]:
    """Give each module its class for a while, so that everything else about it stays as it is."""
    before = [(module, type(module)) for module, _ in classes]
    try:
        for module, kind in classes:
            module.__class__ = kind
        yield
    finally:
        for module, kind in before:
            module.__class__ = kind

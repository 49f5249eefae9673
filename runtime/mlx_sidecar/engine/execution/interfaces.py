"""The parts of mlx-lm's models, caches and layers that the engine makes use of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, Self, TypeGuard, cast

import mlx.core as mx
import mlx.nn as nn

from .mlxlm import ArraysCache, AttendingKeys, ChunkedKVCache, KVCache, RotatingKVCache, make_prompt_cache


class Model(Protocol):
    """A model of mlx-lm, which is a module that takes tokens."""

    def __call__(self, inputs: mx.array, /, *, cache: Sequence[Cache | AttendingKeys]) -> mx.array:
        """Return logits [rows, tokens, vocabulary] after ``inputs`` [rows, tokens]; each layer has a ``cache``."""
        ...

    def parameters(self) -> Mapping[str, object]: ...
    def update(self, parameters: dict[str, object], /) -> nn.Module: ...
    def modules(self) -> list[nn.Module]: ...
    def named_modules(self) -> list[tuple[str, nn.Module]]: ...
    def update_modules(self, modules: dict[str, object], /) -> nn.Module: ...


class Cache(Protocol):
    """The memory of a layer for the tokens so far, of one sequence or of a batch."""

    @property
    def state(self) -> object:
        """Its arrays, in any nesting, and numbers among them."""
        ...

    @property
    def nbytes(self) -> int: ...


class Trimmable(Cache, Protocol):
    """A cache of one sequence whose newest tokens can be taken out."""

    def trim(self, tokens: int, /) -> int: ...


class Mergeable(Cache, Protocol):
    """A cache of one sequence that can be made one with those of others."""

    def merge(self, caches: list[Mergeable], /) -> Merged: ...


class Merged(Cache, Protocol):
    """A cache of a batch of sequences."""

    def filter(self, rows: list[int], /) -> None: ...
    def extend(self, other: Self, /) -> None: ...
    def extract(self, row: int, /) -> Mergeable: ...


class Entries(Cache, Protocol):
    """A ``KVCache`` or ``RotatingKVCache``: keys and values [rows, heads, room, size] of ``offset`` tokens."""

    keys: mx.array
    values: mx.array
    offset: int

    def empty(self) -> bool:
        """Whether there are no keys and values yet."""
        ...


class Window(Entries, Protocol):
    """A ``RotatingKVCache``: it has room for ``max_size`` tokens, of which it never gives up the first ``keep``.

    The next token goes to entry ``_idx``.
    """

    keep: int
    max_size: int
    _idx: int

    def _temporal_order(self, entries: mx.array, /) -> mx.array: ...


class States(Cache, Protocol):
    """An ``ArraysCache``: recurrent states, None before the first token."""

    cache: list[mx.array | None]


class Packed(Protocol):
    """A layer with quantised weights."""

    weight: mx.array
    bias: mx.array
    scales: mx.array
    biases: mx.array
    group_size: int
    bits: int
    mode: str

    def get(self, name: str, /) -> mx.array | None: ...
    def __contains__(self, name: str, /) -> bool: ...


def new_caches(model: Model) -> list[Cache]:
    """Return an empty cache for each layer, as mlx-lm makes them."""
    return cast("list[Cache]", make_prompt_cache(cast("nn.Module", model)))


def leaves(caches: Iterable[Cache]) -> Iterator[Cache]:
    """Yield single caches, because some layers hold a list of them."""
    for cache in caches:
        parts = getattr(cache, "caches", None)
        yield from [cache] if parts is None else leaves(parts)


def is_window(cache: Cache) -> TypeGuard[Window]:
    return type(cache) is RotatingKVCache


def has_entries(cache: Cache) -> TypeGuard[Entries]:
    return type(cache) in (KVCache, RotatingKVCache)


def is_trimmable(cache: Cache) -> TypeGuard[Trimmable]:
    """Whether a pass's tokens can always be taken out; a window may have given up the tokens before them."""
    return type(cache) in (KVCache, ChunkedKVCache)


def has_states(cache: Cache) -> TypeGuard[States]:
    return type(cache) is ArraysCache

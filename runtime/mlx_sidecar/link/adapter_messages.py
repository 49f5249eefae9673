"""Control requests of the front about adapters, and the engine's replies."""

from __future__ import annotations

from typing import Literal

import msgspec


class AdapterCard(msgspec.Struct, frozen=True):
    """An adapter of ``model``: pairs of matrices for ``projections`` of its modules.

    ``targets`` are the modules within a layer, ``digest`` names its content. It is ``resident`` while its matrices are
    in memory, and ``streams`` sequences want it.
    """

    model: str
    adapter: str
    path: str
    format: Literal["mlx-lm", "peft"]
    rank: int
    scale: float
    targets: list[str]
    projections: int
    parameters: int
    memory_bytes: int
    digest: str
    resident: bool = False
    streams: int = 0


class LoadAdapter(msgspec.Struct, frozen=True, tag=True):
    """Let requests to ``model`` name the adapter in directory ``path``; answered by ``AdapterLoaded``.

    With ``known``, its card on an engine before this one, nothing is read before a request names it.
    """

    op: int
    model: str
    adapter: str
    path: str
    known: AdapterCard | None = None


class UnloadAdapter(msgspec.Struct, frozen=True, tag=True):
    """Take no new request with the adapter, and drop it behind the last one; answered by ``AdapterUnloaded`` then."""

    op: int
    model: str
    adapter: str


class QueryAdapters(msgspec.Struct, frozen=True, tag=True):
    """Tell the adapters of ``model``, or of all models; answered by ``Adapters``."""

    op: int
    model: str | None = None


class AdapterLoaded(msgspec.Struct, frozen=True, tag=True):
    """``load_s`` is 0 where its matrices were in memory, or need not be yet."""

    op: int
    card: AdapterCard
    load_s: float


class AdapterUnloaded(msgspec.Struct, frozen=True, tag=True):
    op: int
    freed_bytes: int


class Adapters(msgspec.Struct, frozen=True, tag=True):
    op: int
    adapters: list[AdapterCard]

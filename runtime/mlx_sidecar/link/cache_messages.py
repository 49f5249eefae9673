"""Control requests of the front about the prefix cache, and the engine's replies."""

from __future__ import annotations

from typing import Literal

import msgspec


class QueryCache(msgspec.Struct, frozen=True, tag=True):
    op: int


class ClearCache(msgspec.Struct, frozen=True, tag=True):
    """Forget the blocks of ``model``, or of all models, pinned ones too, and with ``disk`` those on disk."""

    op: int
    model: str | None = None
    disk: bool = True


class ExportCache(msgspec.Struct, frozen=True, tag=True):
    """Write the cached part of ``tokens``, from the first on, to the file ``path``; answered by ``CacheMoved``."""

    op: int
    model: str
    tokens: list[int]
    path: str


class ImportCache(msgspec.Struct, frozen=True, tag=True):
    """Read a file of ``ExportCache`` into the cache; answered by ``CacheMoved``."""

    op: int
    model: str
    path: str


class CachedModel(msgspec.Struct, frozen=True):
    """A model in the prefix cache; ``identity`` names weights, adapter, arithmetic and geometry.

    ``because`` is the reason if prompts of the model cannot be cached, else "".
    """

    model: str
    identity: str
    because: str = ""


class CacheFigures(msgspec.Struct, frozen=True, tag=True):
    """The state of the prefix cache; counters are totals since the engine started.

    ``nodes`` are the blocks that the index knows in either tier, ``ram_blocks`` and ``disk_blocks`` those in each.
    """

    op: int
    block_tokens: int
    models: list[CachedModel]
    ram_limit_bytes: int = 0
    ram_bytes: int = 0
    pinned_bytes: int = 0
    ram_blocks: int = 0
    nodes: int = 0
    index_bytes: int = 0
    disk_state: Literal["off", "on", "failed"] = "off"
    disk_because: str = ""  # the reason of "failed"
    disk_path: str = ""
    disk_limit_bytes: int = 0
    disk_bytes: int = 0
    disk_blocks: int = 0
    disk_files: int = 0
    disk_pending_bytes: int = 0  # still to be written
    counters: dict[str, int] = {}


class CacheCleared(msgspec.Struct, frozen=True, tag=True):
    """The bytes that were freed in each tier."""

    op: int
    ram_bytes: int
    disk_bytes: int


class CacheMoved(msgspec.Struct, frozen=True, tag=True):
    """An export or import is done, of ``tokens`` tokens in a file of ``nbytes`` bytes."""

    op: int
    tokens: int
    nbytes: int

"""Parameters and results of the ``cache/*`` methods, by which a host uses the prefix cache."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from .generate import EscapeSpecial, Priority, Prompted
from .model import Count, ModelName, Name, NullIs, Received, Seconds, Sent


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise PydanticCustomError("absolute_path", "must be an absolute path: the sidecar may run in another directory")
    return path


FilePath = Annotated[Name, AfterValidator(_absolute)]
"""An absolute path of a file on this machine."""


class MemoryTier(Sent):
    """The prefix cache in memory, in bytes and blocks. ``limit_bytes`` is 0 if it is switched off."""

    limit_bytes: Count
    used_bytes: Count
    pinned_bytes: Count = Field(description="the part of used_bytes that is not evicted")
    blocks: Count


class DiskTier(Sent):
    """The prefix cache on disk. ``used_bytes`` and ``files`` count the whole directory, ``blocks`` resident models."""

    state: Literal["off", "on", "failed"]
    because: str | None = Field(default=None, description="the reason of state failed")
    path: str | None = None
    limit_bytes: Count | None = None
    used_bytes: Count
    pending_bytes: Count = Field(description="bytes still to be written")
    blocks: Count
    files: Count


class PrefixIndex(Sent):
    """The index of the prefix cache: the number of blocks known in either tier, and its own size in bytes."""

    nodes: Count
    nbytes: Count


class CachedModel(Sent):
    """A model in the prefix cache. Models share cached blocks if their ``identity`` is the same.

    It names weights, adapter and arithmetic.
    """

    model: str
    cacheable: bool
    identity: str | None = None
    because: str | None = Field(default=None, description="the reason if it is not cacheable")


class CacheStatsResult(Sent):
    """The contents of the prefix cache. Counters are totals since the engine started; new names may be added."""

    block_tokens: Count
    ram: MemoryTier
    disk: DiskTier
    index: PrefixIndex
    counters: dict[str, int]
    models: list[CachedModel]


class CacheClearParams(Received):
    """The model whose blocks to forget. Without ``model``: all models, on disk also those that are not loaded."""

    model: ModelName | None = None
    disk: Annotated[bool, NullIs(True)] = Field(default=True, description="false: only blocks in memory")


class CacheClearResult(Sent):
    """The bytes that were freed."""

    ram_bytes: Count
    disk_bytes: Count


class Prefix(Prompted):
    """The beginning of a conversation, or all of it."""

    add_generation_prompt: Annotated[bool, NullIs(False)] = Field(
        default=False,
        description="with messages: whether the template opens an answer, which a prompt with further turns lacks",
    )

    def _company_faults(self) -> dict[str, str]:
        faults = super()._company_faults()
        if self.messages is None and self.add_generation_prompt:
            faults["add_generation_prompt"] = "only goes with messages"
        return faults


class CacheWarmParams(Prefix):
    """A prefix to compute and to pin."""

    priority: Annotated[Priority, NullIs("normal")] = "normal"
    deadline_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="seconds from the request's arrival, after which it fails with deadline_passed"
    )
    escape_special: EscapeSpecial = False


class CacheWarmResult(Sent):
    """Counts of tokens: of the prefix, of its part that was cached before, and of its part that is now pinned."""

    tokens: Count
    cached_tokens: Count
    pinned_tokens: Count
    prefill_s: Seconds


class File(Received):
    """A file that a conversation is written to or read from."""

    path: FilePath


class CacheExportParams(Prefix, File):
    """A prompt whose cached prefix is written to a file; an existing file is replaced."""

    escape_special: EscapeSpecial = False


class CacheImportParams(File):
    """A file that ``cache/export`` wrote for the same weights, adapter and arithmetic."""

    model: ModelName


class CacheFileResult(Sent):
    """The tokens of the conversation, and the size of the file in bytes."""

    tokens: Count
    nbytes: Count

"""The prefix cache: what a host may ask of it."""

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
"""A file on this machine, from the root on."""


class MemoryTier(Sent):
    """Bytes and blocks. ``limit_bytes`` 0: switched off."""

    limit_bytes: Count
    used_bytes: Count
    pinned_bytes: Count = Field(description="part of used_bytes that is not evicted")
    blocks: Count


class DiskTier(Sent):
    """``used_bytes`` and ``files`` are of the whole directory, ``blocks`` of the models that are resident."""

    state: Literal["off", "on", "failed"]
    because: str | None = Field(default=None, description="why it has switched itself off")
    path: str | None = None
    limit_bytes: Count | None = None
    used_bytes: Count
    pending_bytes: Count = Field(description="that are still to be written")
    blocks: Count
    files: Count


class PrefixIndex(Sent):
    """What finds a prompt: blocks known in either tier, and the memory that this takes."""

    nodes: Count
    nbytes: Count


class CachedModel(Sent):
    """``identity`` names weights, adapter and arithmetic: models of one identity share what is cached."""

    model: str
    cacheable: bool
    identity: str | None = None
    because: str | None = Field(default=None, description="why it is not cacheable")


class CacheStatsResult(Sent):
    """What is cached. Counters are totals since the engine started; their names may grow in number."""

    block_tokens: Count
    ram: MemoryTier
    disk: DiskTier
    index: PrefixIndex
    counters: dict[str, int]
    models: list[CachedModel]


class CacheClearParams(Received):
    """Without ``model``: of all models, on disk also of those that are not loaded."""

    model: ModelName | None = None
    disk: Annotated[bool, NullIs(True)] = Field(default=True, description="false: only what is in memory")


class CacheClearResult(Sent):
    """What came free."""

    ram_bytes: Count
    disk_bytes: Count


class Prefix(Prompted):
    """The beginning of a conversation, or all of it."""

    add_generation_prompt: Annotated[bool, NullIs(False)] = Field(
        default=False,
        description="with messages: whether the template opens an answer; turns that follow do not have it",
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
        default=None, description="from the arrival of the request; then it is answered with deadline_passed"
    )
    escape_special: EscapeSpecial = False


class CacheWarmResult(Sent):
    """Tokens of the prefix, those that needed no prefill, and those that stay until they are cleared."""

    tokens: Count
    cached_tokens: Count
    pinned_tokens: Count
    prefill_s: Seconds


class File(Received):
    """Where a conversation goes to, or comes from."""

    path: FilePath


class CacheExportParams(Prefix, File):
    """What is known of this prompt goes to a file, which is replaced if it is there."""

    escape_special: EscapeSpecial = False


class CacheImportParams(File):
    """A file that ``cache/export`` wrote for the same weights, adapter and arithmetic."""

    model: ModelName


class CacheFileResult(Sent):
    """Tokens of the conversation, and bytes of the file."""

    tokens: Count
    nbytes: Count

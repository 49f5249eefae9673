"""Parameters and results of the methods for adapters that requests name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .model import Count, Label, ModelName, Name, Received, Seconds, Sent

AdapterName = Annotated[Label, StringConstraints(min_length=1)]
"""A name that the host picks for an adapter of a model."""


class AdapterCard(Sent):
    """A low-rank adapter of a resident model, which requests may name."""

    model: str
    adapter: str
    path: str
    format: Literal["mlx-lm", "peft"] = Field(description="the layout of its files")
    rank: Count
    scale: float = Field(description="the factor of its products; of PEFT's files alpha / rank, or alpha / sqrt(rank)")
    targets: list[str] = Field(description="the modules that it changes, within a layer")
    projections: Count = Field(description="how many modules it changes, of all layers")
    parameters: Count
    memory_bytes: Count
    digest: str = Field(description="a name for its content, from both of its files")
    resident: bool = Field(description="whether it is in memory; else it is read when a request names it")
    streams: Count = Field(description="number of running generations that use it")


class AdapterLoadParams(Received):
    model: ModelName
    adapter: AdapterName
    path: Name = Field(description="its directory, with files of mlx-lm or of PEFT")


class AdapterLoadResult(AdapterCard):
    """The card of the adapter, and the seconds that loading took: 0 if it was in memory."""

    load_s: Seconds


class AdapterUnloadParams(Received):
    model: ModelName
    adapter: AdapterName


class AdapterUnloadResult(Sent):
    freed_bytes: Count


class AdaptersParams(Received):
    model: ModelName | None = Field(default=None, description="by default those of all models")


class AdaptersResult(Sent):
    adapters: list[AdapterCard]

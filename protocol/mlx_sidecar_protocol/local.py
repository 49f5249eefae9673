"""Parameters and results of the methods for models that lie on this machine, loaded or not."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .model import Count, ModelName, Name, Received, Sent


class LocalListParams(Received):
    model: ModelName | None = Field(default=None, description="this one alone: a hub id, a directory or pocket")
    folders: list[Name] | None = Field(default=None, description="folders whose model directories are listed as well")


class LocalModel(Sent):
    """A model on this machine. Members that its files do not tell are absent.

    ``source``: ``embedded`` in the package, in the cache of the ``hub``, ``imported`` by mlx-sidecar into its own
    folder, or in another ``folder``. Those of ``hub`` and ``imported`` can be deleted.
    """

    name: str = Field(description="the name that load takes")
    source: Literal["embedded", "hub", "imported", "folder"]
    path: str
    size_bytes: Count = Field(description="bytes on disk; of a hub model those of all its revisions")
    loaded: bool = Field(description="whether the engine holds it")
    architecture: str | None = None
    parameters: Count | None = None
    dtype: str | None = Field(default=None, description="number format of most of the weights as stored")
    quantization: str | None = None
    context_length: Count | None = None
    revision: str | None = Field(default=None, description="the commit, of a hub model")
    problem: str | None = Field(
        default=None, description="the reason why load would refuse it, from config and headers"
    )


class LocalListResult(Sent):
    models: list[LocalModel]


class LocalDeleteParams(Received):
    model: ModelName


class LocalDeleteResult(Sent):
    freed_bytes: Count

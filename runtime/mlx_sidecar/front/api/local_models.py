"""The operations on models that lie on this machine: in the hub's cache, in our own folder, in others."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_sidecar_protocol.errors import ModelInUse, ModelNotFound, RpcError, UnsupportedParameter
from mlx_sidecar_protocol.local import (
    LocalDeleteParams,
    LocalDeleteResult,
    LocalListParams,
    LocalListResult,
    LocalModel,
)

from ...checkpoint.file_numbers import in_short
from .model_catalog import ModelCatalog
from .model_files import ModelFiles
from .model_paths import POCKET, hub_client, local
from .offload import in_thread
from .sink import Sink


@dataclass(frozen=True)
class Found:
    """A model as the file system has it; sizes in bytes."""

    name: str
    source: Literal["embedded", "hub", "imported", "folder"]
    path: Path
    size_bytes: int
    revision: str | None = None


class LocalModels:
    """Serves ``local/list`` and ``local/delete``; one per front. Files are looked at in threads."""

    def __init__(self, catalog: ModelCatalog, files: ModelFiles) -> None:
        self._catalog = catalog
        self._files = files

    async def list(self, sink: Sink, params: LocalListParams) -> LocalListResult:
        if params.model is None:
            found = await in_thread(None, _all, params.folders or [])
        else:
            found = [await in_thread(None, _one, params.model)]
        return LocalListResult(models=await asyncio.gather(*map(self._described, found)))

    async def delete(self, sink: Sink, params: LocalDeleteParams) -> LocalDeleteResult:
        found = await in_thread(None, _one, params.model)
        if found.source == "embedded":
            raise UnsupportedParameter("model", f"{found.name} is a part of mlx-sidecar")
        if found.source == "folder":
            raise UnsupportedParameter(
                "model", f"{found.path} is in neither the hub's cache nor mlx-sidecar's own folder"
            )
        if self._is_loaded(found):
            because = f"{params.model!r} is loaded; unload it first"
            raise ModelInUse.as_told(because, {"model": params.model, "streams": 0})
        await in_thread(None, _delete, found)
        return LocalDeleteResult(freed_bytes=found.size_bytes)

    async def _described(self, found: Found) -> LocalModel:
        known: dict[str, Any] = {}
        try:
            told = await self._files.inspect(found.name, str(found.path))
            if told is not None:
                names = ("architecture", "parameters", "dtype", "quantization", "context_length")
                known = {name: value for name in names if (value := getattr(told, name))}
        except RpcError as error:
            known = {"problem": error.message}
        return LocalModel(
            name=found.name,
            source=found.source,
            path=str(found.path),
            size_bytes=found.size_bytes,
            revision=found.revision,
            loaded=self._is_loaded(found),
            **known,
        )

    def _is_loaded(self, found: Found) -> bool:
        return self._catalog.holds(found.name) or self._catalog.holds_path(str(found.path))


def own_folder() -> Path:
    """The folder of models that mlx-sidecar made itself from other formats."""
    from platformdirs import user_cache_path

    return user_cache_path("mlx-sidecar") / "imported"


def _all(folders: list[str]) -> list[Found]:
    found = [_embedded(), *_in_hub_cache(), *_in_folder(own_folder(), "imported")]
    for folder in folders:
        found += _in_folder(Path(folder).expanduser().absolute(), "folder")
    return found


def _one(name: str) -> Found:
    """The model that ``load`` would take for ``name``, whether or not it is whole. Raises ModelNotFound."""
    if name == POCKET:
        return _embedded()
    for found in _in_hub_cache():
        if found.name == name:
            return found
    try:
        path = local(name)
    except UnsupportedParameter as error:
        raise ModelNotFound(name, error.message) from error
    source: Literal["imported", "folder"] = "imported" if path.parent == own_folder().resolve() else "folder"
    return Found(str(path), source, path, _size(path))


def _embedded() -> Found:
    path = local(POCKET)
    return Found(POCKET, "embedded", path, _size(path))


def _in_hub_cache() -> Iterator[Found]:
    """The models of the hub's cache by name, each in the revision that ``load`` takes. Raises ModelNotFound."""
    hub = hub_client("hub")
    try:
        repos = hub.scan_cache_dir().repos
    except hub.errors.CacheNotFound:
        return
    except (OSError, ValueError) as error:
        raise ModelNotFound("hub", f"the local hub cache cannot be read ({in_short(error)})") from error
    for repo in sorted((repo for repo in repos if repo.repo_type == "model"), key=lambda repo: str(repo.repo_id)):
        revisions = sorted(repo.revisions, key=lambda each: ("main" in each.refs, each.last_modified))
        if revisions:
            last = revisions[-1]
            yield Found(repo.repo_id, "hub", Path(last.snapshot_path), repo.size_on_disk, last.commit_hash)


def _in_folder(folder: Path, source: Literal["imported", "folder"]) -> Iterator[Found]:
    """The model directories right in ``folder``, and the folder itself where it is one."""
    try:
        candidates = sorted([folder, *folder.iterdir()] if folder.is_dir() else [])
    except OSError:  # not ours to look into
        return
    for path in candidates:
        if (path / "config.json").is_file():
            yield Found(str(path), source, path.resolve(), _size(path))


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _delete(found: Found) -> None:
    """Delete a model of the hub's cache with all its revisions, or a directory. Raises ModelNotFound if it cannot."""
    try:
        if found.source == "hub":
            cache = hub_client(found.name).scan_cache_dir()
            (repo,) = [repo for repo in cache.repos if repo.repo_id == found.name and repo.repo_type == "model"]
            cache.delete_revisions(*(each.commit_hash for each in repo.revisions)).execute()
        else:
            shutil.rmtree(found.path)
    except (OSError, ValueError) as error:
        raise ModelNotFound(found.name, f"it cannot be deleted ({in_short(error)})") from error

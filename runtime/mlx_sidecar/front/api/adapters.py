"""The methods for adapters: load one for a model, unload it, and tell of all there are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio
import msgspec

from mlx_sidecar_protocol import adapters as a
from mlx_sidecar_protocol.errors import (
    Cancelled,
    InvalidParams,
    ModelNotLoaded,
    UnknownAdapter,
    UnsupportedParameter,
)
from mlx_sidecar_protocol.generate import GenerateParams

from ...link import adapter_messages as link
from ...link.control_messages import ModelCard
from ..supervision.supervisor import Supervisor
from . import model_paths
from .model_catalog import ModelCatalog
from .sink import Sink

FIELD = "adapter"
_TRIES = 3


class AdapterUses:
    """The requests of all connections that name an adapter, from when they were read until they have ended."""

    def __init__(self) -> None:
        self._users: Counter[tuple[str, str]] = Counter()
        self._leaving: Counter[tuple[str, str]] = Counter()
        self._changed = asyncio.Event()

    def is_leaving(self, model: str, adapter: str) -> bool:
        """Whether the adapter is being unloaded."""
        return (model, adapter) in self._leaving

    @contextmanager
    def of(self, params: GenerateParams) -> Iterator[None]:
        """Keep the adapter that ``params`` name from being unloaded while the block runs.

        Raises ``UnknownAdapter`` where it is being unloaded.
        """
        if params.adapter is None:
            yield
            return
        key = params.model, params.adapter
        if key in self._leaving:
            raise UnknownAdapter(params.adapter, params.model)
        with self._counting(self._users, key):
            yield

    @contextmanager
    def leaving(self, model: str, adapter: str) -> Iterator[None]:
        """Take no new request with the adapter while the block runs."""
        with self._counting(self._leaving, (model, adapter)):
            yield

    async def ended(self, model: str, adapter: str) -> None:
        """Wait until no request uses the adapter."""
        while (model, adapter) in self._users:
            self._changed.clear()
            await self._changed.wait()

    @contextmanager
    def _counting(self, counter: Counter[tuple[str, str]], key: tuple[str, str]) -> Iterator[None]:
        counter[key] += 1
        try:
            yield
        finally:
            counter[key] -= 1
            if not counter[key]:
                del counter[key]
                self._changed.set()


class AdapterHandlers:
    """Serves the methods for adapters of a front."""

    def __init__(self, catalog: ModelCatalog, engine: Supervisor, uses: AdapterUses) -> None:
        self._catalog = catalog
        self._engine = engine
        self._uses = uses

    async def load(self, sink: Sink, params: a.AdapterLoadParams) -> a.AdapterLoadResult:
        """Load the model if need be, and its adapter."""
        for _ in range(_TRIES - 1):
            try:
                return await self._load(params)
            except ModelNotLoaded:
                # The model was evicted just then, or the engine lost; but it is not loaded again where none may be.
                await self._catalog.ready(params.model)
        return await self._load(params)

    async def _load(self, params: a.AdapterLoadParams) -> a.AdapterLoadResult:
        card, _, _ = await self._catalog.ready(params.model)
        _check(card)
        if self._uses.is_leaving(params.model, params.adapter):
            raise InvalidParams.field(FIELD, f"{params.adapter!r} is being unloaded, and requests still use it")
        path = model_paths.adapter_path(params.path)
        assert path is not None
        loaded = await self._engine.load_adapter(
            link.LoadAdapter(self._engine.next_op(), params.model, params.adapter, path)
        )
        self._catalog.adapters(params.model)[params.adapter] = loaded.card
        return a.AdapterLoadResult(**msgspec.structs.asdict(loaded.card), load_s=loaded.load_s)

    def unload(self, sink: Sink, params: a.AdapterUnloadParams) -> Coroutine[Any, Any, a.AdapterUnloadResult]:
        """Let no request name the adapter that is read behind this one, and wait for those that use it."""
        with ExitStack() as leaving:
            if is_known := params.adapter in self._catalog.adapters(params.model):
                leaving.enter_context(self._uses.leaving(params.model, params.adapter))
            left = leaving.pop_all()
        sink.on_cancel(_nothing)  # it runs then all the same, and lets requests name the adapter again
        return self._unload(sink, params, left, is_known=is_known)

    async def _unload(
        self, sink: Sink, params: a.AdapterUnloadParams, leaving: ExitStack, *, is_known: bool
    ) -> a.AdapterUnloadResult:
        with leaving, anyio.CancelScope() as scope:
            sink.on_cancel(scope.cancel)
            if not is_known:
                raise UnknownAdapter(params.adapter, params.model)
            await self._uses.ended(params.model, params.adapter)
            return await self._drop(params)
        raise Cancelled

    async def _drop(self, params: a.AdapterUnloadParams) -> a.AdapterUnloadResult:
        known = self._catalog.adapters(params.model)
        try:
            unloaded = await self._engine.unload_adapter(
                link.UnloadAdapter(self._engine.next_op(), params.model, params.adapter)
            )
        except (ModelNotLoaded, UnknownAdapter):
            if not await self._catalog.came_back(params.model):
                raise
            return await self._drop(params)
        known.pop(params.adapter, None)
        return a.AdapterUnloadResult(freed_bytes=unloaded.freed_bytes)

    async def adapters(self, sink: Sink, params: a.AdaptersParams) -> a.AdaptersResult:
        """The adapters of one model, or of all."""
        if params.model is not None and not self._catalog.holds(params.model):
            await self._catalog.came_back(params.model)
            if not self._catalog.holds(params.model):
                raise ModelNotLoaded(params.model)
        answer = await self._engine.adapters(link.QueryAdapters(self._engine.next_op(), params.model))
        return a.AdaptersResult(adapters=[a.AdapterCard(**msgspec.structs.asdict(card)) for card in answer.adapters])


def adapter_of(params: GenerateParams, card: ModelCard, catalog: ModelCatalog) -> str | None:
    """The adapter that the request names; None for none.

    Raises ``UnsupportedParameter`` where the model takes none, ``UnknownAdapter`` where it has none of the name.
    """
    if params.adapter is None:
        return None
    _check(card)
    if params.adapter not in catalog.adapters(params.model):
        raise UnknownAdapter(params.adapter, params.model)
    return params.adapter


def _nothing() -> None:
    pass


def _check(card: ModelCard) -> None:
    if because := card.lacks("adapter"):
        raise UnsupportedParameter(FIELD, because)

"""The operations on the prefix cache report, clear, warm, export and import it."""

from __future__ import annotations

import time
from collections.abc import Callable

from mlx_sidecar_protocol import cache as c
from mlx_sidecar_protocol.errors import (
    Cancelled,
    ContextTooLong,
    DeadlinePassed,
    InternalError,
    InvalidParams,
    ModelNotLoaded,
    UnsupportedParameter,
)
from mlx_sidecar_protocol.operations import NoParams

from ...link import cache_messages, control_messages
from ...link import messages as link
from ..streams.recovery import Recovery
from ..streams.task import EngineTask
from ..supervision.supervisor import Supervisor
from .model_catalog import ModelCatalog
from .prompt import prompt_tokens
from .request_task import RequestTask
from .sink import Sink


class CacheHandlers:
    """Serves the ``cache/`` methods of a front."""

    def __init__(self, catalog: ModelCatalog, recovery: Recovery, engine: Supervisor) -> None:
        self._catalog = catalog
        self._recovery = recovery
        self._engine = engine

    async def stats(self, sink: Sink, params: NoParams) -> c.CacheStatsResult:
        return _stats(await self._engine.cache())

    async def clear(self, sink: Sink, params: c.CacheClearParams) -> c.CacheClearResult:
        name = params.model
        if name is not None:
            await self._catalog.came_back(name)
        try:
            cleared = await self._engine.clear_cache(
                cache_messages.ClearCache(self._engine.next_op(), name, params.disk)
            )
        except ModelNotLoaded:
            if name is None or not await self._catalog.came_back(name):
                raise
            # The engine was lost before it had done so, and the next one was asked before it had the model.
            return await self.clear(sink, params)
        return c.CacheClearResult(ram_bytes=cleared.ram_bytes, disk_bytes=cleared.disk_bytes)

    async def warm(self, sink: Sink, params: c.CacheWarmParams) -> c.CacheWarmResult:
        arrived = time.monotonic()
        deadline = arrived + (params.deadline_s or float("inf"))
        task: EngineTask | None = None

        async def prepare() -> EngineTask:
            nonlocal task
            task = await self._prefill(params, deadline)
            return task

        ending = await RequestTask(self._catalog, self._recovery, sink, params.model, deadline).run(prepare)
        if task is None or ending is None or ending.reason == "deadline":
            raise DeadlinePassed
        if ending.reason == "error":
            raise ending.error or InternalError()
        if ending.reason == "cancelled":
            raise Cancelled
        tokens = len(task.entry.prompt)
        return c.CacheWarmResult(
            tokens=tokens,
            cached_tokens=min(ending.cached_tokens, tokens),
            pinned_tokens=ending.pinned,
            prefill_s=ending.timing.prefill_s,
        )

    async def _prefill(self, params: c.CacheWarmParams, deadline: float) -> EngineTask:
        card, tokens = await self._prompt(params)
        if len(tokens) >= card.context_length:
            raise ContextTooLong(have=len(tokens), limit=max(0, card.context_length - 1))
        _refuse_uncacheable(card)
        submit = link.Submit(
            seq=self._recovery.tasks.next_number(),
            model=params.model,
            tokens=tokens,
            goal=link.Prefill(pin=True),
            priority=params.priority,
            deadline_s=None if params.deadline_s is None else deadline - time.monotonic(),
        )
        return EngineTask(submit)

    async def export(self, sink: Sink, params: c.CacheExportParams) -> c.CacheFileResult:
        card, tokens = await self._prompt(params)
        _refuse_uncacheable(card)
        try:
            moved = await self._moved(lambda op: cache_messages.ExportCache(op, params.model, tokens, params.path))
        except InvalidParams as error:  # the engine knows tokens only, not messages or text
            first = error.details["errors"][0]
            if first["loc"] != ["tokens"]:
                raise
            raise InvalidParams.field(params.source, first["msg"], "nothing_cached") from error
        return c.CacheFileResult(tokens=moved.tokens, nbytes=moved.nbytes)

    async def import_(self, sink: Sink, params: c.CacheImportParams) -> c.CacheFileResult:
        card, _, _ = await self._catalog.ready(params.model)
        _refuse_uncacheable(card)
        moved = await self._moved(lambda op: cache_messages.ImportCache(op, params.model, params.path))
        return c.CacheFileResult(tokens=moved.tokens, nbytes=moved.nbytes)

    async def _moved(
        self, make: Callable[[int], cache_messages.ExportCache | cache_messages.ImportCache]
    ) -> cache_messages.CacheMoved:
        message = make(self._engine.next_op())
        try:
            return await self._engine.move_cache(message)
        except ModelNotLoaded:  # evicted since the look-up; tried once more only
            self._catalog.evicted(message.model)
            await self._catalog.ready(message.model)
            return await self._engine.move_cache(make(self._engine.next_op()))

    async def _prompt(self, params: c.Prefix) -> tuple[control_messages.ModelCard, list[int]]:
        card, text, _ = await self._catalog.ready(params.model)
        opens = params.add_generation_prompt
        prompt = await prompt_tokens(text, params, card.vocabulary, add_generation_prompt=opens)
        return card, prompt.tokens


def _refuse_uncacheable(card: control_messages.ModelCard) -> None:
    """Raise UnsupportedParameter if nothing of the model can be cached, before the engine is asked."""
    if because := card.lacks("prefix_cache"):
        raise UnsupportedParameter("model", because)


def _stats(figures: cache_messages.CacheFigures) -> c.CacheStatsResult:
    return c.CacheStatsResult(
        block_tokens=figures.block_tokens,
        ram=c.MemoryTier(
            limit_bytes=figures.ram_limit_bytes,
            used_bytes=figures.ram_bytes,
            pinned_bytes=figures.pinned_bytes,
            blocks=figures.ram_blocks,
        ),
        disk=c.DiskTier(
            state=figures.disk_state,
            because=figures.disk_because or None,
            path=figures.disk_path or None,
            limit_bytes=figures.disk_limit_bytes if figures.disk_path else None,
            used_bytes=figures.disk_bytes,
            pending_bytes=figures.disk_pending_bytes,
            blocks=figures.disk_blocks,
            files=figures.disk_files,
        ),
        index=c.PrefixIndex(nodes=figures.nodes, nbytes=figures.index_bytes),
        counters=figures.counters,
        models=[
            c.CachedModel(
                model=model.model,
                cacheable=not model.because,
                identity=model.identity or None,
                because=model.because or None,
            )
            for model in figures.models
        ],
    )

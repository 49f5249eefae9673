"""The catalog knows how each model was loaded, and whether the engine holds it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from mlx_sidecar_protocol.errors import EngineLost, ModelNotLoaded, RpcError
from mlx_sidecar_protocol.operations import LoadParams

from ...config import Config
from ...link.adapter_messages import AdapterCard, LoadAdapter
from ...link.control_messages import Load, ModelCard, Progress, Unload, Unloaded
from ..output.formats.table import OutputFormats
from ..supervision.supervisor import Supervisor
from ..supervision.text_pool import TextPool
from . import model_paths
from .model_files import FAKE, ModelFiles, OnProgress
from .model_refusals import ModelRefusals
from .model_text import ModelText

log = logging.getLogger(__name__)

NAMES = 1024  # remembered with how they were loaded


@dataclass
class _Known:
    """A model that has been loaded: the parameters for loading it again, and its card while it is resident."""

    params: LoadParams
    path: str
    card: ModelCard | None
    has_vocabulary: bool = False  # the engine was sent it since this load
    formats: OutputFormats | None = None  # None until its text side was read
    adapters: dict[str, AdapterCard] = field(default_factory=dict)  # which come back with it


class _Lock(asyncio.Lock):
    """The lock of one name."""

    lost_because: str | None = None  # why the engine was lost with a load that others were waiting for


class ModelCatalog:
    """The catalog of a front. Loading a model that is already being loaded waits for that load."""

    def __init__(self, config: Config, engine: Supervisor, texts: TextPool) -> None:
        self._config = config
        self._engine = engine
        self._files = ModelFiles(config, texts)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()  # of the names in use right now
        self._coming_back: dict[str, asyncio.Event] = {}  # those that an engine was lost with
        self._leaving: Counter[str] = Counter()  # unloads by force that have not been answered
        self._refusals = ModelRefusals()
        self._unloads = 0  # that were asked for

    @property
    def files(self) -> ModelFiles:
        return self._files

    def engine_lost(self) -> list[str]:
        """No model is resident any more. Returns those that were, the latest first, for ``restore``."""
        names = [name for name, known in reversed(self._known.items()) if known.card is not None]
        for name in names:
            self._known[name].card = None
            self._coming_back.setdefault(name, asyncio.Event())
        return names

    async def restore(self, name: str) -> None:
        """Make ``name`` resident as it was before: from the same directory, with the same adapter, pin and policy.

        Raises as ``load``.
        """
        try:
            async with self._lock(name):
                if self._card(name) is None:
                    known = self._known.get(name)
                    how = self._how(name)
                    await self._load(how, known.path if known else await self._files.directory(how))
        finally:
            if (back := self._coming_back.pop(name, None)) is not None:
                back.set()

    def holds(self, name: str) -> bool:
        """Whether the engine has it, as far as we know."""
        return self._card(name) is not None

    def formats(self, name: str) -> OutputFormats | None:
        """How ``name`` writes tool calls and reasoning; None until it has been loaded."""
        known = self._known.get(name)
        return known.formats if known else None

    def adapters(self, name: str) -> dict[str, AdapterCard]:
        """The adapters of ``name``, which come back with it; none of a model that is not known."""
        known = self._known.get(name)
        return known.adapters if known else {}

    def vocabulary_due(self, name: str) -> bool:
        """Whether the engine must be sent the vocabulary of ``name`` now: once after each load."""
        known = self._known.get(name)
        due = known is not None and not known.has_vocabulary
        if known is not None:
            known.has_vocabulary = True
        return due

    def holds_path(self, path: str) -> bool:
        """Whether the engine has a model of directory ``path``, under any name."""
        return any(known.card is not None and known.path == path for known in self._known.values())

    def is_leaving(self, name: str) -> bool:
        """Whether it is being unloaded by force: its streams end, and it does not come back for them."""
        return name in self._leaving

    def evicted(self, name: str) -> None:
        """The engine no longer holds ``name``."""
        if name in self._known:
            self._known[name].card = None

    async def text(self, name: str) -> ModelText:
        """The text side of a model; its weights are not loaded for this.

        Raises:
            ModelNotLoaded: it is not resident and the sidecar runs with ``--no-autoload``.
            ModelNotFound: the name leads nowhere without a download.
        """
        if not (self._config.autoload or self.holds(name) or name in self._coming_back):
            raise ModelNotLoaded(name)
        return await self._files.text(name, await self._files.directory(self._how(name)))

    async def ready(self, name: str) -> tuple[ModelCard, ModelText, float]:
        """A model to generate with, loaded if need be, and the seconds that loading it cost."""
        await self._come_back(name)
        card = self._card(name)
        if card is None:
            if not self._config.autoload:
                raise ModelNotLoaded(name)
            lock = self._lock(name)
            if not lock.locked():
                lock.lost_because = None  # it did not wait, so it may try
            async with lock:
                card = self._card(name)  # the last holder of the lock may have loaded it
                if card is None:
                    return await self._load_for_all(name, lock)
        return card, await self._files.text(name, card.path), 0.0

    async def _load_for_all(self, name: str, lock: _Lock) -> tuple[ModelCard, ModelText, float]:
        """Load ``name`` for all callers waiting for ``lock``. A load that ends engines is not tried for each."""
        if lock.lost_because is not None:
            raise EngineLost(lock.lost_because)
        how = self._how(name)
        try:
            return await self._load(how, await self._files.directory(how))
        except EngineLost as error:
            lock.lost_because = str(error.details["because"])
            raise

    async def load(
        self, params: LoadParams, on_progress: OnProgress | None = None
    ) -> tuple[ModelCard, ModelText, float]:
        """Make a model resident, fetching it from the hub if need be. Loading a loaded model costs nothing.

        Where engines have been given up, it tries one more.
        """
        self._engine.wake(urgent=True)
        await self._come_back(params.model)
        async with self._lock(params.model):
            how = self._completed(params)
            path = await self._files.directory(how, on_progress, download=True)
            began = time.monotonic()
            card, text, load_s = await self._load(how, path, on_progress, explicit=True)
            await asyncio.shield(text.compile_templates())
            return card, text, time.monotonic() - began if load_s else 0.0

    async def unload(self, name: str, *, force: bool) -> int:
        """Drop a model; returns the bytes freed. Raises ModelInUse, ModelNotLoaded."""
        await self._come_back(name)
        self._unloads += 1
        try:
            answer = await self._dropped(name, force=force)
        except ModelNotLoaded:
            if name not in self._coming_back:
                raise
            # The engine was lost before it had done so, and the next one was asked before it had the model.
            return await self.unload(name, force=force)
        card = self._card(name)
        if card is not None:
            self._files.forget(card.path)
        self.evicted(name)
        self.adapters(name).clear()
        return answer.freed_bytes

    async def _dropped(self, name: str, *, force: bool) -> Unloaded:
        self._leaving += Counter({name: int(force)})
        try:
            return await self._engine.unload(Unload(self._engine.next_op(), name, force))
        finally:
            self._leaving -= Counter({name: int(force)})

    async def came_back(self, name: str) -> bool:
        """Whether an engine was lost with ``name``; then the next one has it now, or cannot."""
        lost = name in self._coming_back
        await self._come_back(name)
        return lost

    async def _come_back(self, name: str) -> None:
        """If an engine was lost with ``name``, wait until the next one has it, or cannot."""
        while (back := self._coming_back.get(name)) is not None:
            await back.wait()

    def _card(self, name: str) -> ModelCard | None:
        """The card of a model that is resident as far as we know."""
        known = self._known.get(name)
        return known.card if known else None

    def _how(self, name: str) -> LoadParams:
        known = self._known.get(name)
        return known.params if known else LoadParams(model=name)

    def _completed(self, params: LoadParams) -> LoadParams:
        """``params``; values that they leave open are a resident model's, so that loading it again is no change."""
        if self._card(params.model) is None:
            return params
        before = self._how(params.model)
        kept: dict[str, Any] = {"pin": params.pin or before.pin}
        kept |= {name: getattr(before, name) for name in ("dtype", "adapter", "ttl_s") if getattr(params, name) is None}
        if params.path is None and params.revision is None:
            kept |= {"path": before.path, "revision": before.revision}
        return params.model_copy(update=kept)

    def _lock(self, name: str) -> _Lock:
        return self._locks.setdefault(name, _Lock())

    async def _load(
        self, params: LoadParams, path: str, on_progress: OnProgress | None = None, *, explicit: bool = False
    ) -> tuple[ModelCard, ModelText, float]:
        """A load that was refused is refused again at once, until a file of it changes."""
        if path == FAKE:
            return await self._load_anew(params, path, on_progress)
        key, unloads = (params.model, path, params.dtype, params.adapter), self._unloads
        found = await self._files.signature(path, params.adapter)
        self._refusals.check(key, found, time.monotonic(), explicit=explicit)
        try:
            return await self._load_anew(params, path, on_progress)
        except RpcError as error:
            if unloads == self._unloads:  # else it may have been unloaded before it was ready
                self._refusals.remember(key, found, error, time.monotonic())
            raise

    async def _load_anew(
        self, params: LoadParams, path: str, on_progress: OnProgress | None
    ) -> tuple[ModelCard, ModelText, float]:
        began = time.monotonic()
        message = Load(
            op=self._engine.next_op(),
            model=params.model,
            path=path,
            dtype=params.dtype,
            adapter=model_paths.adapter_path(params.adapter),
            pin=params.pin,
            ttl_s=params.ttl_s,
        )
        report = None if on_progress is None else partial(_report, on_progress)
        await self._files.inspect(params.model, path)  # no engine is given a file that ends its reader
        # Weights in the engine, tokenizer and templates in a text process, at the same time.
        reading = self._files.reading(params.model, path)
        was_read = reading.done()
        reading.add_done_callback(_compile_templates)
        loaded = await self._engine.load(message, report)
        before = self._known.get(params.model)
        # Before its text is there: an engine that is lost meanwhile is lost with this model.
        known = self._remember(params, path, loaded.card)
        if before is not None and (before.path, before.params.dtype) == (path, params.dtype):
            known.adapters = before.adapters
        await self._bring_adapters(known)
        try:
            text = await asyncio.shield(reading)
        except RpcError:
            if before is None or before.card is None:
                await self._drop(params.model, before)
            raise
        known.formats = text.formats
        return loaded.card, text, time.monotonic() - began if loaded.load_s or not was_read else 0.0

    async def _bring_adapters(self, known: _Known) -> None:
        """Tell the engine of the adapters that the model had; it reads them when requests name them."""
        for adapter in list(known.adapters.values()):
            op = self._engine.next_op()
            try:
                await self._engine.load_adapter(LoadAdapter(op, adapter.model, adapter.adapter, adapter.path, adapter))
            except RpcError as error:  # most often the engine was lost: the next one is told again
                log.warning("the adapter %s of %s does not come back: %s", adapter.adapter, adapter.model, error)

    def _remember(self, params: LoadParams, path: str, card: ModelCard) -> _Known:
        known = self._known[params.model] = _Known(params, path, card)
        self._known.move_to_end(params.model)
        while len(self._known) > NAMES:
            self._known.popitem(last=False)
        return known

    async def _drop(self, name: str, before: _Known | None) -> None:
        """Drop weights that came without a tokenizer. ``before`` is the earlier entry of the model."""
        self._known.pop(name, None)
        if before is not None:
            self._known[name] = before
        try:
            await self._engine.unload(Unload(self._engine.next_op(), name))
        except RpcError as error:
            log.info("%s was not unloaded: %s", name, error)


def _compile_templates(reading: asyncio.Future[ModelText]) -> None:
    if not reading.cancelled() and reading.exception() is None:
        reading.result().compile_templates()


def _report(on_progress: OnProgress, progress: Progress) -> None:
    on_progress(progress.stage, progress.done_bytes, progress.total_bytes)

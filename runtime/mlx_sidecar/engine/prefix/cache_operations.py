"""Carries out requests about the prefix cache: figures, forgetting, and conversations in files."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mlx_sidecar_protocol.errors import (
    InternalError,
    InvalidParams,
    ModelNotLoaded,
    OutOfMemory,
    RpcError,
    UnsupportedParameter,
)

from ...link.cache_messages import CacheCleared, CacheMoved, ClearCache, ExportCache, ImportCache, QueryCache
from ...link.faults import fault_of
from ...link.messages import Refused, ToFront
from ..cache.disk.events import Cleared, Exported, Imported
from ..cache.prefix_cache import PrefixCache
from ..cache.prefix_match import LEAST_TOKENS
from ..cache.prefixes import Prefixes
from ..core.oom_backoff import out_of_memory
from ..resident_models import ResidentModels
from ..stats import cache_figures

Asked = QueryCache | ClearCache | ExportCache | ImportCache


class CacheOperations:
    """Answers at once, or when the disk tier has done its part; its key there is the request's negated ``op``."""

    def __init__(
        self, models: ResidentModels, prefix_cache: PrefixCache | None, send: Callable[[list[ToFront]], None]
    ) -> None:
        """Send answers with ``send``."""
        self._models = models
        self._prefix_cache = prefix_cache
        self._send = send
        # By key: from the tier's event to the answer; None where the tier has more to do for it.
        self._answers: dict[int, Callable[[Any], ToFront | None]] = {}
        self._exports: dict[int, ExportCache] = {}  # exports for which blocks are read first
        self._unscanned: list[ExportCache] = []  # exports that wait for the scan of the disk

    def ask(self, message: Asked) -> None:
        """Answer ``message``, or begin what it asks for.

        Raises ``ModelNotLoaded``, ``UnsupportedParameter`` for a model of which nothing can be cached, and
        ``InvalidParams`` for a conversation of which nothing is."""
        match message:
            case QueryCache():
                self._send([cache_figures(message.op, self._models, self._prefix_cache)])
            case ClearCache():
                self._clear(message)
            case ExportCache():
                self._export(message)
            case ImportCache():
                self._import(message)

    def serve(self) -> None:
        """Go on with exports that had to wait for the scan of the disk."""
        waiting, self._unscanned = self._unscanned, []
        for message in waiting:
            self._go_on(message, self._export)

    def knows(self, key: int) -> bool:
        """Whether an export waits for the blocks that are read under ``key``."""
        return key in self._exports

    def fetched(self, key: int) -> None:
        """Go on with an export whose blocks have been read."""
        self._go_on(self._exports.pop(key), self._write)

    def told(self, result: Cleared | Exported | Imported) -> None:
        """Answer the request that the disk tier has carried out."""
        answer = self._answers.pop(result.key)(result)
        self._send([] if answer is None else [answer])

    def _go_on(self, message: ExportCache, step: Callable[[ExportCache], None]) -> None:
        try:
            step(message)
        except RpcError as error:
            self._send([Refused(message.op, fault_of(error))])

    def _of(self, model: str) -> tuple[PrefixCache, Prefixes]:
        loaded = self._models.resident(model).loaded
        if self._prefix_cache is None or loaded.prefixes is None:
            raise UnsupportedParameter("model", loaded.uncacheable)
        return self._prefix_cache, loaded.prefixes

    def _clear(self, message: ClearCache) -> None:
        if self._prefix_cache is None:
            self._send([CacheCleared(message.op, 0, 0)])
            return
        prefix_cache, prefixes = (self._prefix_cache, None) if message.model is None else self._of(message.model)
        parts = [prefixes] if message.model is None else [prefixes, *self._adapted(message.model)]
        ram_bytes = sum(map(prefix_cache.clear, parts))
        if not message.disk or prefix_cache.disk.directory is None:
            self._send([CacheCleared(message.op, ram_bytes, 0)])
            return
        identities = [None if part is None else part.identity for part in parts]
        self._clear_files(message, prefix_cache, identities, ram_bytes)

    def _adapted(self, model: str) -> Iterable[Prefixes]:
        adaptable = self._models.resident(model).loaded.adaptable
        return () if adaptable is None else adaptable.prefixes.values()

    def _clear_files(
        self,
        message: ClearCache,
        prefix_cache: PrefixCache,
        identities: list[str | None],
        ram_bytes: int,
        disk_bytes: int = 0,
    ) -> None:
        """Delete the files of ``identities``, one after the other, and answer ``message``."""

        def cleared(result: Cleared) -> ToFront | None:
            prefix_cache.disk.cleared(result.identity)
            if result.because:
                because = (
                    f"the disk has failed, and files may be left in {prefix_cache.disk.directory}: {result.because}"
                )
                return Refused(message.op, fault_of(UnsupportedParameter("disk", because)))
            freed_bytes = disk_bytes + result.nbytes
            if len(identities) > 1:
                self._clear_files(message, prefix_cache, identities[1:], ram_bytes, freed_bytes)
                return None
            return CacheCleared(message.op, ram_bytes, freed_bytes)

        self._answers[-message.op] = cleared
        prefix_cache.disk.clear(-message.op, identities[0])

    def _export(self, message: ExportCache) -> None:
        prefix_cache, prefixes = self._of(message.model)
        if not prefix_cache.disk.ready(prefixes):
            self._unscanned.append(message)
        elif prefix_cache.disk.read(-message.op, prefixes, array("i", [*message.tokens, 0])):
            self._exports[-message.op] = message
        else:
            self._write(message)

    def _write(self, message: ExportCache) -> None:
        from ..cache.export import conversation  # it brings mlx, which an engine with a cache has

        prefix_cache, prefixes = self._of(message.model)
        tokens = array("i", message.tokens)
        try:
            segment = conversation(prefixes, tokens)
        except (RuntimeError, MemoryError) as error:
            raise out_of_memory(error, self._models.free_bytes) or InternalError() from error
        if segment is None:
            raise InvalidParams.field(
                "tokens", f"nothing of it is cached; of less than {LEAST_TOKENS} tokens nothing is"
            )

        def exported(result: Exported) -> ToFront:
            return _outcome(message.op, segment.stop, result)

        self._answers[-message.op] = exported
        prefix_cache.disk.tier.export(-message.op, Path(message.path), prefixes.identity, segment, tokens)

    def _import(self, message: ImportCache) -> None:
        prefix_cache, prefixes = self._of(message.model)

        def imported(result: Imported) -> ToFront:
            segment = result.segment
            if segment is None:
                return _outcome(message.op, 0, result)
            if not prefix_cache.has(prefixes):  # its model went meanwhile
                return Refused(message.op, fault_of(ModelNotLoaded(message.model)))
            if not prefixes.spec.fit(segment):
                return _outcome(message.op, 0, result._replace(because="it does not hold what it says it holds"))
            if not prefix_cache.store.make_room(segment.nbytes):
                have_bytes = prefix_cache.store.limit_bytes - prefix_cache.store.pinned_bytes
                return Refused(message.op, fault_of(OutOfMemory(need_bytes=segment.nbytes, have_bytes=have_bytes)))
            prefixes.put(result.tokens, [segment])
            return _outcome(message.op, segment.stop, result)

        self._answers[-message.op] = imported
        prefix_cache.disk.tier.import_(
            -message.op, Path(message.path), prefixes.identity, prefix_cache.store.limit_bytes
        )


def _outcome(op: int, tokens: int, result: Exported | Imported) -> ToFront:
    if result.because:
        return Refused(op, fault_of(InvalidParams.field("path", result.because)))
    return CacheMoved(op, tokens, result.nbytes)

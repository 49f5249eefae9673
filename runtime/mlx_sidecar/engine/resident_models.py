"""The resident models are loaded, named, evicted and freed here. mlx is not used: a backend brings the weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from math import inf
from typing import Protocol

from mlx_sidecar_protocol.errors import (
    InvalidParams,
    ModelInUse,
    ModelLoadFailed,
    ModelNotLoaded,
    OutOfMemory,
    RpcError,
)

from ..link.control_messages import Load, Loaded, ModelCard, Progress
from ..link.faults import fault_of
from ..link.messages import Refused, ToFront
from ..observe.metrics import Metrics
from .cache.prefix_cache import PrefixCache
from .core.batch import Batch
from .core.loaded_model import Backend, LoadedModel, Loading, LoadStep, Resident
from .core.memory_ledger import CACHE, WEIGHTS, MemoryLedger, Owner
from .core.oom_backoff import OomBackoff, out_of_memory

log = logging.getLogger(__name__)

__all__ = ["Backend", "LoadStep", "LoadedModel", "ResidentModels"]


class Lender(Protocol):
    """A part of the engine that keeps memory for requests to come."""

    @property
    def reclaimable_bytes(self) -> int:
        """Bytes that nothing uses now."""
        ...

    def release(self, need_bytes: float) -> None:
        """Give back ``need_bytes``, as far as there are so many."""


class ResidentModels:
    """Models by name. One load at a time, in bounded steps, so that other models go on decoding meanwhile.

    ``streams`` tells how many sequences use a model. ``ledger`` has the weights, the prefix cache and the memory that
    batches keep; the latter two count themselves, and go first, as does what ``lenders`` keep. ``evicted`` is told of
    each model that is evicted.
    """

    def __init__(
        self,
        backend: Backend,
        ledger: MemoryLedger,
        metrics: Metrics,
        streams: Callable[[str], int],
        evicted: Callable[[str], None] = lambda _: None,
        prefix_cache: PrefixCache | None = None,
    ) -> None:
        self._backend = backend
        self._prefix_cache = prefix_cache
        self._ledger = ledger
        self._metrics = metrics
        self._streams = streams
        self._evicted = evicted
        self.backoff = OomBackoff()
        self.lenders: list[Lender] = []
        self.changes = 0  # how often a model came or went
        self._residents: dict[str, Resident] = {}
        self._loading: dict[str, Loading] = {}
        if prefix_cache is not None:
            store = prefix_cache.store
            ledger.meter(Owner(CACHE, None), lambda: store.used_bytes)

    @property
    def loading(self) -> Loading | None:
        """The load in progress, or the next one."""
        return next(iter(self._loading.values()), None)

    @property
    def count(self) -> int:
        """How many models are resident."""
        return len(self._residents)

    def in_flight(self, model: str) -> bool:
        """Whether the device has a step of ``model`` that has not been read."""
        return model in self._residents and self._residents[model].loaded.batch.in_flight

    @property
    def held_bytes(self) -> int:
        """Bytes held or reserved by weights, loads, sequences, the prefix cache and batches."""
        return self._ledger.held_bytes

    @property
    def free_bytes(self) -> int:
        return self._ledger.free_bytes

    def room_bytes(self, *, alone: bool) -> int:
        """Return the bytes that sequences may still take: ``free_bytes``, or less under a ceiling.

        A ceiling does not count for a sequence that is ``alone``, because it can only be tried.
        """
        ceiling_bytes = self.backoff.limit_bytes
        if alone or ceiling_bytes is None:
            return self._ledger.free_bytes
        return min(self._ledger.limit_bytes, ceiling_bytes) - self._ledger.held_bytes

    def batches(self) -> Iterator[tuple[str, Batch]]:
        """The batches of all resident models, by model."""
        return ((name, resident.loaded.batch) for name, resident in self._residents.items())

    def loaded(self) -> Iterator[tuple[str, LoadedModel]]:
        """All resident models."""
        return ((name, resident.loaded) for name, resident in self._residents.items())

    @property
    def reclaimable_bytes(self) -> int:
        """Bytes of the prefix cache, and bytes that batches and lenders keep: no sequence uses them now."""
        return self._ledger.bytes_of(CACHE) + sum(lender.reclaimable_bytes for lender in self.lenders)

    def most_bytes(self, model: str) -> int:
        """Return the bytes that a sequence of ``model`` could have if everything else went that may go."""
        held = [r.loaded.card.memory_bytes for name, r in self._residents.items() if r.pinned or name == model]
        pinned_bytes = 0 if self._prefix_cache is None else self._prefix_cache.store.pinned_bytes
        return max(0, self._ledger.limit_bytes - pinned_bytes - sum(held))

    def release_kept(self, need_bytes: float = inf) -> int:
        """Give back ``need_bytes`` of kept memory, as far as there are so many; return how many it was.

        The memory that batches keep goes first, then the least recently used of the prefix cache, then what lenders
        have.
        """
        before = self.reclaimable_bytes
        for resident in self._residents.values():
            resident.loaded.batch.release()
        if self._prefix_cache is not None:
            self._prefix_cache.store.release(need_bytes - (before - self.reclaimable_bytes))
        for lender in self.lenders:
            lender.release(need_bytes - (before - self.reclaimable_bytes))
        freed_bytes = before - self.reclaimable_bytes
        if freed_bytes:
            self._metrics.count("kept_released")
        return freed_bytes

    def release_idle(self, need_bytes: int) -> int:
        """Evict idle models until ``need_bytes`` are free, as far as there are any; return how many bytes it was."""
        freed = 0
        for name in self._idle():
            if freed and freed >= need_bytes:
                break
            freed += self._evict(name)
        return freed

    def reclaim(self) -> None:
        """Give the memory of dropped models back to the system."""
        self._backend.reclaim()

    @property
    def next_expiry_s(self) -> float:
        """Return when the first idle model outlives its time to live, or the ceiling is lifted."""
        return min(self.backoff.until_s, *(self._residents[name].expires_s for name in self._idle()), float("inf"))

    def resident(self, model: str) -> Resident:
        if model not in self._residents:
            raise ModelNotLoaded(model)
        return self._residents[model]

    def cards(self, now: float) -> list[ModelCard]:
        ready = [resident.card(now, self._streams(name)) for name, resident in self._residents.items()]
        return ready + [ModelCard(name, "loading", loading.load.path) for name, loading in self._loading.items()]

    def request(self, load: Load, now: float) -> ModelCard | None:
        """Return the card of the model if it is resident; else None, and ``advance`` will load it."""
        known = self._residents.get(load.model) or self._loading.get(load.model)
        if known is None:
            self._loading[load.model] = Loading(load, [load.op], load.pin, load.ttl_s)
            return None
        for field in ("path", "dtype", "adapter"):
            have, want = getattr(known.load, field), getattr(load, field)
            if have != want:
                raise InvalidParams.field(field, f"{load.model!r} is loaded with {field} {have!r}; unload it first")
        known.pinned = known.pinned or load.pin
        known.ttl_s = load.ttl_s if load.ttl_s is not None else known.ttl_s
        if isinstance(known, Loading):
            known.ops.append(load.op)
            return None
        known.last_used_s = now
        return known.card(now, self._streams(load.model))

    def advance(self, loading: Loading, now: float) -> list[ToFront]:
        """Run one bounded operation of ``loading``; return the messages for the front."""
        step = self._try_step(loading, now)
        if isinstance(step, RpcError):
            return self._abandon(loading, step)
        if isinstance(step, LoadStep):
            loading.due_s = step.not_before_s
            return [Progress(op, step.stage, step.done_bytes, step.total_bytes) for op in loading.ops]
        del self._loading[loading.load.model]
        resident = Resident(loading.load, step, loading.pinned, loading.ttl_s, now)
        self._enter(loading.load.model, resident)
        self._backend.reclaim()  # what was unpacked or converted on the way may be several times the weights
        self._metrics.count("loads")
        return [Loaded(op, resident.card(now, 0), now - loading.began_s) for op in loading.ops]

    def unload(self, model: str, force: bool) -> tuple[int, list[ToFront]]:
        """Drop ``model``; return the bytes freed, and refusals for the requests that waited for its load.

        Raises ``ModelNotLoaded``, and ``ModelInUse`` unless ``force``; with it, end the sequences first.
        """
        if model in self._loading:
            error = ModelLoadFailed(model, "it was unloaded before it was ready")
            return 0, self._abandon(self._loading[model], error)
        self.resident(model)
        if self._streams(model) and not force:
            raise ModelInUse(model, self._streams(model))
        self._metrics.count("unloads")
        return self._free(model), []

    def make_room(self, need_bytes: int, *, alone: bool = True) -> None:
        """Give back kept memory, then evict idle models, least recently used first, until ``need_bytes`` are free.

        A load is not held up by a ceiling, nor a sequence that is ``alone``. Raises ``OutOfMemory`` and evicts nothing
        if that could not be enough.
        """
        idle = self._idle()
        evictable = sum(self._residents[name].loaded.card.memory_bytes for name in idle)
        lacking_bytes = need_bytes - self.room_bytes(alone=alone)
        if 0 < lacking_bytes <= evictable + self.reclaimable_bytes:  # else what is kept would go in vain
            self.release_kept(lacking_bytes)
        room = self.room_bytes(alone=alone)
        if need_bytes > room + evictable:
            raise OutOfMemory(need_bytes=need_bytes, have_bytes=max(0, room + evictable))
        while self.room_bytes(alone=alone) < need_bytes:
            self._evict(idle.pop(0))

    def expire(self, now: float) -> None:
        """Evict models that were idle for longer than their time to live, and lift a ceiling whose time is over."""
        self.backoff.lift(now)
        for name in self._idle():
            if self._residents[name].expires_s <= now:
                self._evict(name)

    def _idle(self) -> list[str]:
        """The models that may be evicted, least recently used first."""
        idle = [name for name, r in self._residents.items() if not r.pinned and not self._streams(name)]
        return sorted(idle, key=lambda name: self._residents[name].last_used_s)

    def _try_step(self, loading: Loading, now: float) -> LoadStep | LoadedModel | RpcError:
        # The failure is returned, not raised, because its frames hold the weights that were loaded so far.
        try:
            return self._next_step(loading, now)
        except Exception as error:  # noqa: BLE001 - logged and answered
            return self._typed(loading.load, error)

    def _next_step(self, loading: Loading, now: float) -> LoadStep | LoadedModel:
        if loading.steps is None:
            loading.began_s = now
            self._reserve(loading, self._backend.estimate(loading.load))
            loading.steps = self._backend.load(loading.load)
        try:
            step = next(loading.steps)
        except StopIteration as done:
            loaded: LoadedModel = done.value
            return loaded
        if step.needs_bytes > loading.estimated_bytes:
            self._reserve(loading, step.needs_bytes)
        return step

    def _reserve(self, loading: Loading, nbytes: int) -> None:
        """Make room for a load that is going to hold ``nbytes``. Raises ``OutOfMemory`` and changes nothing."""
        self.make_room(nbytes - loading.estimated_bytes)
        loading.estimated_bytes = nbytes
        self._ledger.reserve(Owner(WEIGHTS, loading.load.model), nbytes)

    def _typed(self, load: Load, error: Exception) -> RpcError:
        if isinstance(error, OutOfMemory):  # there is no room for it
            self._metrics.count("refused_for_memory")
            return error
        if (failed := out_of_memory(error, self.free_bytes)) is not None:
            log.warning("loading %s failed for want of memory: %s", load.path, error)
            self._metrics.count("allocation_failures")
            self._metrics.count("refused_for_memory")
            return failed
        if isinstance(error, RpcError):
            return error
        # mlx-lm raises what it likes at a model it cannot read.
        log.warning("loading %s failed", load.path, exc_info=error)
        return ModelLoadFailed(load.model, f"{type(error).__name__}: {error}")

    def _abandon(self, loading: Loading, error: RpcError) -> list[ToFront]:
        del self._loading[loading.load.model]
        if loading.steps is not None:
            loading.steps.close()
            loading.steps = None
            self._ledger.release(Owner(WEIGHTS, loading.load.model))
        error.__traceback__ = error.__context__ = error.__cause__ = None
        self._backend.reclaim()
        self._metrics.count("errors")
        return [Refused(op, fault_of(error)) for op in loading.ops]

    def _evict(self, model: str) -> int:
        log.info("evicting %s", model)
        self._metrics.count("evictions")
        freed = self._free(model)
        self._evicted(model)
        return freed

    def _enter(self, model: str, resident: Resident) -> None:
        self._residents[model] = resident
        self.changes += 1
        batch = resident.loaded.batch
        self._ledger.reserve(Owner(WEIGHTS, model), resident.loaded.card.memory_bytes)
        self._ledger.meter(Owner(CACHE, model), lambda: batch.reclaimable_bytes)

    def _free(self, model: str) -> int:
        resident = self._residents.pop(model)
        self.changes += 1
        memory_bytes, prefixes = resident.loaded.card.memory_bytes, resident.loaded.prefixes
        del resident  # else its arrays could not be reclaimed
        self._ledger.release(Owner(WEIGHTS, model))
        self._ledger.release(Owner(CACHE, model))
        if prefixes is not None and self._prefix_cache is not None:
            self._prefix_cache.leave(prefixes)
        self._backend.reclaim()
        return memory_bytes

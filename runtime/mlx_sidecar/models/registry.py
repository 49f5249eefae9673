"""Which models are resident: loading, naming, evicting and freeing them. Knows no mlx: a backend brings the weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from mlx_sidecar_protocol.errors import (
    InvalidParams,
    ModelInUse,
    ModelLoadFailed,
    ModelNotLoaded,
    OutOfMemory,
    RpcError,
)

from ..engine.batch import Batch
from ..engine.faults import fault_of
from ..link.messages import Load, Loaded, ModelCard, Progress, Refused, ToFront
from ..observe.metrics import Metrics
from .budget import SequenceCost

log = logging.getLogger(__name__)


class LoadStep(NamedTuple):
    """How far a load is. ``not_before_s``, on the engine's clock, is when its next step is due."""

    stage: str
    done_bytes: int
    total_bytes: int
    not_before_s: float = 0.0


class LoadedModel(NamedTuple):
    """What a backend makes of a directory."""

    card: ModelCard
    batch: Batch
    cost: SequenceCost


class Backend(Protocol):
    """Where weights live and how they get there."""

    def estimate(self, load: Load) -> int:
        """Bytes the model will hold once loaded. Raises what is wrong with the directory, before anything is read."""
        ...

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        """Load in bounded steps. Raises typed errors; a generator that is closed or fails leaves nothing behind."""
        ...

    def reclaim(self) -> None:
        """Give the memory of models that were dropped back to the system."""

    def gauges(self) -> dict[str, float]:
        """Memory as the backend sees it."""
        ...


@dataclass
class Resident:
    """A model that is ready. ``last_used_s`` is of the engine's clock."""

    load: Load
    loaded: LoadedModel
    pinned: bool
    ttl_s: float | None
    last_used_s: float

    @property
    def expires_s(self) -> float:
        return float("inf") if self.ttl_s is None else self.last_used_s + self.ttl_s

    def card(self, now: float, streams: int) -> ModelCard:
        return msgspec.structs.replace(
            self.loaded.card, last_used_s=max(0.0, now - self.last_used_s), pinned=self.pinned, streams=streams
        )


@dataclass
class Loading:
    """A load in progress, or in the queue for it while ``steps`` is None. ``ops`` are all that wait for it."""

    load: Load
    ops: list[int]
    pinned: bool
    ttl_s: float | None
    steps: Generator[LoadStep, None, LoadedModel] | None = None
    estimated_bytes: int = 0  # what it is given room for when it begins
    began_s: float = 0.0
    due_s: float = 0.0


class Registry:
    """Models by name. One load at a time, in bounded steps, so that other models go on decoding meanwhile.

    ``streams`` tells how many sequences use a model, ``reserved_bytes`` what all of them hold. What batches keep for
    whoever asks next is counted too, and goes first.
    """

    def __init__(
        self,
        backend: Backend,
        limit_bytes: int,
        metrics: Metrics,
        streams: Callable[[str], int],
        reserved_bytes: Callable[[], int],
    ) -> None:
        self._backend = backend
        self._limit_bytes = limit_bytes
        self._metrics = metrics
        self._streams = streams
        self._reserved_bytes = reserved_bytes
        self._residents: dict[str, Resident] = {}
        self._loading: dict[str, Loading] = {}

    @property
    def loading(self) -> Loading | None:
        """The load whose turn it is."""
        return next(iter(self._loading.values()), None)

    @property
    def free_bytes(self) -> int:
        held = sum(resident.loaded.card.memory_bytes for resident in self._residents.values())
        loading = sum(loading.estimated_bytes for loading in self._loading.values())
        return self._limit_bytes - held - loading - self._reserved_bytes() - self.kept_bytes

    def batches(self) -> Iterator[tuple[str, Batch]]:
        """Those of all resident models."""
        return ((name, resident.loaded.batch) for name, resident in self._residents.items())

    @property
    def kept_bytes(self) -> int:
        """Caches that batches keep and nobody uses now."""
        return sum(resident.loaded.batch.kept_bytes for resident in self._residents.values())

    def most_bytes(self, model: str) -> int:
        """What a sequence of ``model`` could have if everything else went that may go."""
        held = [r.loaded.card.memory_bytes for name, r in self._residents.items() if r.pinned or name == model]
        return max(0, self._limit_bytes - sum(held))

    def release_kept(self) -> None:
        """Give back what is kept."""
        for resident in self._residents.values():
            resident.loaded.batch.release()

    @property
    def next_expiry_s(self) -> float:
        """When the first idle model outlives its time to live."""
        idle = [r.expires_s for name, r in self._residents.items() if not r.pinned and not self._streams(name)]
        return min(idle, default=float("inf"))

    def resident(self, model: str) -> Resident:
        if model not in self._residents:
            raise ModelNotLoaded(model)
        return self._residents[model]

    def cards(self, now: float) -> list[ModelCard]:
        ready = [resident.card(now, self._streams(name)) for name, resident in self._residents.items()]
        return ready + [ModelCard(name, "loading", loading.load.path) for name, loading in self._loading.items()]

    def request(self, load: Load, now: float) -> ModelCard | None:
        """The card if ``load`` is resident; else None, and ``advance`` will bring it."""
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
        """One bounded operation of ``loading``; what there is to tell the front."""
        try:
            step = self._next_step(loading, now)
        except RpcError as error:
            return self._abandon(loading, error)
        except Exception as error:  # mlx-lm raises what it likes at a model it cannot read
            log.warning("loading %s failed", loading.load.path, exc_info=error)
            return self._abandon(loading, ModelLoadFailed(loading.load.model, f"{type(error).__name__}: {error}"))
        if isinstance(step, LoadStep):
            loading.due_s = step.not_before_s
            return [Progress(op, step.stage, step.done_bytes, step.total_bytes) for op in loading.ops]
        del self._loading[loading.load.model]
        resident = Resident(loading.load, step, loading.pinned, loading.ttl_s, now)
        self._residents[loading.load.model] = resident
        self._metrics.count("loads")
        return [Loaded(op, resident.card(now, 0), now - loading.began_s) for op in loading.ops]

    def unload(self, model: str, force: bool) -> tuple[int, list[ToFront]]:
        """Drop ``model``: bytes freed, and refusals for those that were waiting for its load.

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

    def make_room(self, need_bytes: int) -> None:
        """Give back what is kept, then evict idle models, least recently used first, until ``need_bytes`` are free.

        Raises ``OutOfMemory`` and evicts nothing if that could not be enough.
        """
        if self.free_bytes < need_bytes:
            self.release_kept()
        idle = [name for name, r in self._residents.items() if not r.pinned and not self._streams(name)]
        idle.sort(key=lambda name: self._residents[name].last_used_s)
        evictable = sum(self._residents[name].loaded.card.memory_bytes for name in idle)
        if need_bytes > self.free_bytes + evictable:
            raise OutOfMemory(need_bytes=need_bytes, have_bytes=max(0, self.free_bytes + evictable))
        while self.free_bytes < need_bytes:
            self._evict(idle.pop(0))

    def expire(self, now: float) -> None:
        """Evict what has been idle for longer than its time to live."""
        for name, resident in list(self._residents.items()):
            if resident.expires_s <= now and not resident.pinned and not self._streams(name):
                self._evict(name)

    def _next_step(self, loading: Loading, now: float) -> LoadStep | LoadedModel:
        if loading.steps is None:
            loading.began_s = now
            estimated_bytes = self._backend.estimate(loading.load)
            self.make_room(estimated_bytes)
            loading.estimated_bytes = estimated_bytes
            loading.steps = self._backend.load(loading.load)
        try:
            return next(loading.steps)
        except StopIteration as done:
            loaded: LoadedModel = done.value
            return loaded

    def _abandon(self, loading: Loading, error: RpcError) -> list[ToFront]:
        del self._loading[loading.load.model]
        if loading.steps is not None:
            loading.steps.close()
            loading.steps = None
        # The traceback's frames hold what was loaded so far.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        self._backend.reclaim()
        self._metrics.count("errors")
        return [Refused(op, fault_of(error)) for op in loading.ops]

    def _evict(self, model: str) -> None:
        log.info("evicting %s", model)
        self._metrics.count("evictions")
        self._free(model)

    def _free(self, model: str) -> int:
        held = self._residents.pop(model).loaded.card.memory_bytes
        self._backend.reclaim()
        return held

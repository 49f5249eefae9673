"""The answers to ``stats`` and to the question for the prefix cache's figures are gathered here."""

from __future__ import annotations

from dataclasses import dataclass

from ..link.cache_messages import CachedModel, CacheFigures
from ..link.control_messages import EngineStats
from .cache.prefix_cache import PrefixCache
from .cache.segment import BLOCK
from .core.instrumentation import Instrumentation
from .core.memory_ledger import ADAPTERS, CACHE, SEQUENCES, WEIGHTS, MemoryLedger
from .resident_models import Backend, LoadedModel, ResidentModels
from .scheduling.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Stats:
    """The engine's own figures, gathered from its parts."""

    instrumentation: Instrumentation
    scheduler: Scheduler
    models: ResidentModels
    ledger: MemoryLedger
    backend: Backend

    def engine(self, op: int, now: float) -> EngineStats:
        """Return counters, gauges and histograms as of ``now``, as the answer to ``op``."""
        metrics, last_s = self.instrumentation.metrics, self.instrumentation.last_operation_s
        return EngineStats(
            op,
            dict(metrics.counters),
            gauges={name: float(value) for name, value in self._gauges().items()},
            histograms=metrics.histograms,
            last_device_operation_s=None if last_s is None else now - last_s,
        )

    def _gauges(self) -> dict[str, float]:
        gauges = {
            "running": self.scheduler.running,
            "waiting": self.scheduler.waiting,
            "parked": self.scheduler.parked,
            "batch_rows": self.instrumentation.batch_rows,
            "models_bytes": self.ledger.bytes_of(WEIGHTS),
            "reserved_bytes": self.ledger.bytes_of(SEQUENCES),
            "kept_bytes": self.ledger.bytes_of(CACHE),
            "adapters_bytes": self.ledger.bytes_of(ADAPTERS),
            "free_bytes": self.ledger.free_bytes,
            "device_s": self.instrumentation.device_s,
            **self.backend.gauges(),
        }
        if (ceiling_bytes := self.models.backoff.limit_bytes) is not None:
            gauges["ceiling_bytes"] = ceiling_bytes
        return gauges


def cache_figures(op: int, models: ResidentModels, prefix_cache: PrefixCache | None) -> CacheFigures:
    """Return the figures of the prefix cache, as the answer to ``op``; all 0 where there is none."""
    cards = [
        CachedModel(name, "" if loaded.prefixes is None else loaded.prefixes.identity, _objection(loaded))
        for name, loaded in models.loaded()
    ]
    if prefix_cache is None:
        return CacheFigures(op, BLOCK, cards)
    store, index, ondisk = prefix_cache.store, prefix_cache.store.index, prefix_cache.disk
    disk = ondisk.tier.figures
    return CacheFigures(
        op,
        block_tokens=BLOCK,
        ram_limit_bytes=store.limit_bytes,
        ram_bytes=store.used_bytes,
        pinned_bytes=store.pinned_bytes,
        ram_blocks=index.ram_blocks,
        nodes=index.nodes,
        index_bytes=index.nbytes,
        disk_state=disk.state,
        disk_because=disk.because,
        disk_path="" if ondisk.directory is None else str(ondisk.directory),
        disk_limit_bytes=ondisk.limit_bytes,
        disk_bytes=disk.used_bytes,
        disk_blocks=index.disk_blocks,
        disk_files=disk.files,
        disk_pending_bytes=disk.pending_bytes + prefix_cache.unwritten_bytes,
        counters={**store.counters, **disk.counters},
        models=cards,
    )


def _objection(loaded: LoadedModel) -> str:
    return "" if loaded.prefixes is not None else loaded.uncacheable

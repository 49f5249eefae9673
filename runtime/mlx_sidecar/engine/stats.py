"""What the engine and its prefix cache say of themselves when they are asked."""

from __future__ import annotations

from ..link.cache_messages import CachedModel, CacheFigures
from ..link.control_messages import EngineStats
from .cache.prefix_cache import PrefixCache
from .cache.segment import BLOCK
from .core.instrumentation import Instrumentation
from .resident_models import LoadedModel, ResidentModels
from .scheduling.scheduler import Scheduler


def engine_figures(
    op: int,
    now: float,
    instrumentation: Instrumentation,
    scheduler: Scheduler,
    models: ResidentModels,
    memory: dict[str, float],
) -> EngineStats:
    """As of ``now``; ``memory`` is what the backend says of it."""
    gauges = {
        "running": scheduler.running,
        "waiting": scheduler.waiting,
        "parked": scheduler.parked,
        "batch_rows": instrumentation.batch_rows,
        "reserved_bytes": scheduler.reserved_bytes,
        "kept_bytes": models.reclaimable_bytes,
        "free_bytes": models.free_bytes,
        "device_s": instrumentation.device_s,
        **memory,
    }
    if (ceiling_bytes := models.backoff.limit_bytes) is not None:
        gauges["ceiling_bytes"] = ceiling_bytes
    last = instrumentation.last_operation_s
    return EngineStats(
        op,
        dict(instrumentation.metrics.counters),
        {name: float(value) for name, value in gauges.items()},
        instrumentation.metrics.histograms,
        None if last is None else now - last,
    )


def cache_figures(op: int, models: ResidentModels, prefix_cache: PrefixCache | None) -> CacheFigures:
    """What there is in the cache. Without one, nothing."""
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

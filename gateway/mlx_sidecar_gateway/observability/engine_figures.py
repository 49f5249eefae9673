"""The sidecar's figures at the time of a scrape, as Prometheus has them. Nothing is counted here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import get_args

import anyio
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from mlx_sidecar_client import RpcError, Sidecar, SidecarLost
from mlx_sidecar_client.protocol.cache import CacheStatsResult, DiskTier
from mlx_sidecar_client.protocol.notifications import EngineState
from mlx_sidecar_client.protocol.stats import Health, Histogram, StatsResult

from .metric import Kind, Metric
from .names import TABLE
from .sidecar_names import cache_name, engine_name, histogram_name

ANSWER_S = 1.5  # a front whose engine is busy says so after a second

Sample = tuple[str, tuple[str, ...], float | None]
"""A metric's name without its beginning, the values of its labels, and a value; None for one that is not known."""

_DISK_STATES: tuple[str, ...] = get_args(DiskTier.model_fields["state"].annotation)
_HEALTHS: tuple[str, ...] = get_args(Health.model_fields["status"].annotation)
_OWNERS = {"sequences": "reserved_bytes", "cache": "kept_bytes", "adapters": "adapters_bytes"}
_TOKENS_BY_TIER = {"ram": "ram_tokens", "disk": "disk_tokens"}
# Gauges of ``stats`` that are told under a name of their own.
_TAKEN = frozenset({*_OWNERS.values(), "free_bytes", "ceiling_bytes", "device_s"})


@dataclass(frozen=True)
class Figures:
    """The figures that the sidecar told of itself; ``cache`` is None if that did not come in time."""

    stats: StatsResult
    cache: CacheStatsResult | None


async def ask(sidecar: Sidecar) -> Figures | None:
    """The sidecar's figures; None if it does not answer within ``ANSWER_S``."""
    stats: list[StatsResult] = []
    cache: list[CacheStatsResult] = []

    async def ask_cache() -> None:
        try:
            cache.append(await sidecar.cache_stats())
        except (RpcError, SidecarLost):
            return  # an engine that is not there has no cache; ``stats`` says so

    with anyio.move_on_after(ANSWER_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_cache)
            try:
                stats.append(await sidecar.stats())
            except (RpcError, SidecarLost):
                tasks.cancel_scope.cancel()
    return Figures(stats[0], cache[0] if cache else None) if stats else None


def families(figures: Figures) -> Iterator[Family]:
    """Every metric of the sidecar that it told something of."""
    made: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for suffix, labels, value in _samples(figures):
        name = f"mlx_sidecar_{suffix}"
        if value is not None:
            made.setdefault(name, family(_entry(name, "gauge"))).add_metric(labels, value)
    for member, count in figures.stats.counters.items():
        name = engine_name(member)
        made.setdefault(name, family(_entry(name, "counter"))).add_metric((), count)
    for member, count in _cache_counters(figures.cache).items():
        name = cache_name(member)
        made.setdefault(name, family(_entry(name, "counter"))).add_metric((), count)
    yield from made.values()
    for member, histogram in figures.stats.histograms.items():
        yield _histogram(_entry(histogram_name(member), "histogram"), histogram)


def family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    """An empty family of a counter or a gauge."""
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)


def _entry(name: str, kind: Kind) -> Metric:
    """The table's entry; a sidecar that is newer than the table may have more members, which are passed on."""
    return TABLE.get(name) or Metric(name, kind, "", (), "A figure of the sidecar", "sidecar")


def _histogram(metric: Metric, histogram: Histogram) -> HistogramMetricFamily:
    """A histogram without a sum, which the sidecar does not keep."""
    made = HistogramMetricFamily(metric.name, metric.help, labels=())
    bounds = [*map(str, histogram.bounds), "+Inf"]
    counts = list(accumulate(histogram.counts))
    made.add_metric((), list(zip(bounds, counts, strict=True)), None)
    made.add_sample(f"{metric.name}_count", {}, counts[-1])
    return made


def _samples(figures: Figures) -> Iterator[Sample]:
    yield from _state(figures.stats)
    yield from _memory(figures.stats)
    for member, value in figures.stats.gauges.items():
        if member not in _TAKEN:
            yield engine_name(member).removeprefix("mlx_sidecar_"), (), value
    if figures.cache is not None:
        yield from _cache(figures.cache)


def _state(stats: StatsResult) -> Iterator[Sample]:
    engine, queue = stats.engine, stats.queue
    told = (engine.backend, engine.device, engine.numerics, engine.policy)
    yield "info", (stats.server.version, *(str(each or "") for each in told)), 1
    yield from _one_of("engine_state", engine.state, get_args(EngineState))
    yield from _one_of("health", stats.health.status, _HEALTHS)
    yield "ready", (), stats.health.ready
    yield "engine_restarts", (), engine.restarts
    yield "uptime_seconds", (), stats.uptime_s
    yield "last_device_operation_seconds", (), stats.health.last_device_operation_s
    yield "engine_device_seconds", (), stats.gauges.get("device_s")
    yield "queue_running", (), queue.running
    yield "queue_waiting", (), queue.waiting
    yield "queue_limit", (), queue.limit


def _memory(stats: StatsResult) -> Iterator[Sample]:
    memory, gauges = stats.memory, stats.gauges
    yield "memory_bytes", ("weights",), memory.models_bytes
    for owner, member in _OWNERS.items():
        yield "memory_bytes", (owner,), gauges.get(member)
    yield "memory_limit_bytes", (), memory.limit_bytes
    yield "memory_free_bytes", (), gauges.get("free_bytes")
    yield "memory_ceiling_bytes", (), gauges.get("ceiling_bytes")
    yield "device_memory_bytes", ("used",), memory.used_bytes
    yield "device_memory_bytes", ("peak",), memory.peak_bytes
    yield "device_memory_bytes", ("buffers",), memory.cache_bytes
    yield "resident_bytes", ("front",), memory.front_bytes
    yield "resident_bytes", ("engine",), memory.engine_bytes


def _cache(cache: CacheStatsResult) -> Iterator[Sample]:
    ram, disk = cache.ram, cache.disk
    yield "cache_bytes", ("ram",), ram.used_bytes
    yield "cache_bytes", ("disk",), disk.used_bytes
    yield "cache_limit_bytes", ("ram",), ram.limit_bytes
    yield "cache_limit_bytes", ("disk",), disk.limit_bytes
    yield "cache_blocks", ("ram",), ram.blocks
    yield "cache_blocks", ("disk",), disk.blocks
    yield "cache_pinned_bytes", (), ram.pinned_bytes
    yield "cache_index_bytes", (), cache.index.nbytes
    yield "cache_disk_pending_bytes", (), disk.pending_bytes
    yield "cache_disk_files", (), disk.files
    yield from _one_of("cache_disk_state", disk.state, _DISK_STATES)
    for tier, member in _TOKENS_BY_TIER.items():
        yield "cache_hit_tokens", (tier,), cache.counters.get(member, 0)


def _cache_counters(cache: CacheStatsResult | None) -> Mapping[str, int]:
    if cache is None:
        return {}
    return {name: count for name, count in cache.counters.items() if name not in _TOKENS_BY_TIER.values()}


def _one_of(suffix: str, is_in: str, states: tuple[str, ...]) -> Iterator[Sample]:
    for state in states:
        yield suffix, (state,), state == is_in

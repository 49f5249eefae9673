"""The snapshot of a gateway that the live page shows, made of records and of statistics of the sidecar. It is pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from mlx_sidecar_client.protocol.cache import CacheStatsResult
from mlx_sidecar_client.protocol.stats import Memory as MemoryStats
from mlx_sidecar_client.protocol.stats import StatsResult

from ..core.records import Record

MOST_RUNNING = 50  # requests that are listed while they run; all are counted


@dataclass(frozen=True)
class Sample:
    """The statistics of the sidecar at ``at_s`` of the monotonic clock, or ``problem``, the reason for having none."""

    at_s: float
    stats: StatsResult | None = None
    cache: CacheStatsResult | None = None
    problem: str = ""


@dataclass(frozen=True)
class Queue:
    """Numbers of requests in the engine; ``limit`` is that of those that wait."""

    running: int
    waiting: int
    limit: int | None


@dataclass(frozen=True)
class Engine:
    """The engine process: its state, how often it was started again, and why it is not well.

    ``interrupted`` counts answers that went on in a next engine, ``poisoned`` requests that ended two engines.
    """

    state: str
    restarts: int
    reason: str | None
    backend: str | None
    device: str | None
    policy: str | None
    uptime_s: float
    interrupted: int
    poisoned: int


@dataclass(frozen=True)
class Tier:
    """One tier of the prefix cache, in bytes and blocks; ``tokens`` came from it, of all prompts so far."""

    state: str
    used_bytes: int
    limit_bytes: int | None
    blocks: int
    tokens: int


@dataclass(frozen=True)
class Cache:
    """The prefix cache. ``prompt_tokens`` are those of all prompts so far, cached or not."""

    ram: Tier
    disk: Tier
    prompt_tokens: int
    cached_tokens: int
    evicted_blocks: int


@dataclass(frozen=True)
class Memory:
    """Bytes of the engine's limit, by their owner, and the resident sizes of both processes."""

    limit_bytes: int | None
    owners: Mapping[str, int]
    free_bytes: int | None
    front_bytes: int | None
    engine_bytes: int | None


@dataclass(frozen=True)
class FirstToken:
    """Percentiles of the time until the first token, in seconds, of ``count`` answers; None without any."""

    p50_s: float | None
    p95_s: float | None
    count: int


@dataclass(frozen=True)
class Request:
    """A request, running while ``outcome`` is empty. Times in seconds are None where they are not known.

    ``elapsed_s`` runs with the request. Tokens of a running one are known if it is streamed. ``missed`` says why its
    prompt left the cached ones, where it asked for that.
    """

    id: str
    came_unix_s: float
    surface: str
    route: str
    model: str
    client: str
    priority: str
    status: int
    outcome: str
    message: str
    elapsed_s: float
    queue_s: float | None
    load_s: float | None
    prefill_s: float | None
    decode_s: float | None
    first_token_s: float | None
    tokens: int
    prompt_tokens: int | None
    cached_tokens: int | None
    missed: str


@dataclass(frozen=True)
class Shared:
    """The part of a snapshot that all viewers may see. Parts of the sidecar are None while it does not answer.

    ``running``, ``outcomes`` and ``ignored`` are those of ``/stats``.
    """

    unix_s: float
    problem: str
    running: int
    outcomes: Mapping[str, int]
    ignored: Mapping[str, int]
    tokens_a_second: float | None
    first_token: FirstToken
    queue: Queue | None
    engine: Engine | None
    cache: Cache | None
    memory: Memory | None


@dataclass(frozen=True)
class Own:
    """The part of a snapshot for the holder of one key: requests that run, the last that ended, and their misses."""

    running: list[Request]
    ended: list[Request]
    missed: Mapping[str, int]


def shared(
    samples: Sequence[Sample],
    unix_s: float,
    running: int,
    outcomes: Mapping[str, int],
    ignored: Mapping[str, int],
    first_tokens_s: Iterable[float],
) -> Shared:
    """The shared part. ``samples`` are those of the last seconds, the newest last; there is at least one."""
    newest = samples[-1]
    stats = newest.stats
    return Shared(
        unix_s=unix_s,
        problem=newest.problem,
        running=running,
        outcomes=outcomes,
        ignored=ignored,
        tokens_a_second=tokens_a_second(samples),
        first_token=first_token(first_tokens_s),
        queue=None if stats is None else Queue(stats.queue.running, stats.queue.waiting, stats.queue.limit),
        engine=None if stats is None else _engine(stats),
        cache=None if stats is None or newest.cache is None else _cache(newest.cache, stats.counters),
        memory=None if stats is None else _memory(stats.memory, stats.gauges),
    )


def own(running: Iterable[Record], ended: Iterable[Record], now_s: float) -> Own:
    """The part of one key. ``running`` has the oldest first, ``ended`` the newest; ``now_s`` is monotonic."""
    last = [_request(record, now_s) for record in ended]
    first = sorted(running, key=lambda record: record.came_s, reverse=True)[:MOST_RUNNING]
    misses = Counter(request.missed for request in last if request.missed)
    return Own([_request(record, now_s) for record in first], last, dict(misses))


def tokens_a_second(samples: Sequence[Sample]) -> float | None:
    """The rate of tokens between the first and the last sample; None if it is not known.

    Only samples of one process of the sidecar count, because its counters end with it.
    """
    counts = [
        (sample.at_s, sample.stats.counters.get("completion_tokens", 0))
        for sample in samples
        if sample.stats is not None
        and samples[-1].stats is not None
        and sample.stats.instance == samples[-1].stats.instance
    ]
    if len(counts) < 2 or counts[-1][0] <= counts[0][0] or counts[-1][1] < counts[0][1]:
        return None
    return (counts[-1][1] - counts[0][1]) / (counts[-1][0] - counts[0][0])


def first_token(seconds: Iterable[float]) -> FirstToken:
    """The percentiles of these times, each of which is one of them."""
    ascending = sorted(seconds)
    if not ascending:
        return FirstToken(None, None, 0)

    def percentile(part: float) -> float:
        return ascending[ceil(part * len(ascending)) - 1]

    return FirstToken(percentile(0.5), percentile(0.95), len(ascending))


def _engine(stats: StatsResult) -> Engine:
    engine, counters = stats.engine, stats.counters
    return Engine(
        state=engine.state,
        restarts=engine.restarts,
        reason=stats.health.reason,
        backend=engine.backend,
        device=engine.device,
        policy=engine.policy,
        uptime_s=stats.uptime_s,
        interrupted=counters.get("interruptions", 0),
        poisoned=counters.get("poisoned", 0),
    )


def _cache(cache: CacheStatsResult, counters: Mapping[str, int]) -> Cache:
    ram, disk, own_counters = cache.ram, cache.disk, cache.counters
    in_memory = "on" if ram.limit_bytes else "off"
    return Cache(
        ram=Tier(in_memory, ram.used_bytes, ram.limit_bytes, ram.blocks, own_counters.get("ram_tokens", 0)),
        disk=Tier(disk.state, disk.used_bytes, disk.limit_bytes, disk.blocks, own_counters.get("disk_tokens", 0)),
        prompt_tokens=counters.get("prompt_tokens", 0),
        cached_tokens=counters.get("cached_tokens", 0),
        evicted_blocks=own_counters.get("evicted_blocks", 0),
    )


def _memory(memory: MemoryStats, gauges: Mapping[str, float]) -> Memory:
    owners = {
        "models": memory.models_bytes or 0,
        "adapters": int(gauges.get("adapters_bytes", 0)),
        "requests": int(gauges.get("reserved_bytes", 0)),
        "prefix cache": int(gauges.get("kept_bytes", 0)),
    }
    free = gauges.get("free_bytes")
    return Memory(
        limit_bytes=memory.limit_bytes,
        owners=owners,
        free_bytes=None if free is None else max(0, int(free)),
        front_bytes=memory.front_bytes,
        engine_bytes=memory.engine_bytes,
    )


def _request(record: Record, now_s: float) -> Request:
    timing, usage = record.timing, record.usage
    return Request(
        id=record.id,
        came_unix_s=record.came_unix_s,
        surface=record.surface,
        route=record.route or record.path,
        model=record.model,
        client=record.client,
        priority=record.priority,
        status=record.status,
        outcome=record.outcome,
        message=record.message,
        elapsed_s=now_s - record.came_s if record.duration_s is None else record.duration_s,
        queue_s=None if timing is None else timing.queue_s,
        load_s=None if timing is None else timing.load_s,
        prefill_s=None if timing is None else timing.prefill_s,
        decode_s=None if timing is None else timing.decode_s,
        first_token_s=record.first_token_s,
        tokens=record.tokens,
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        cached_tokens=None if usage is None else usage.cached_tokens,
        missed=record.missed,
    )

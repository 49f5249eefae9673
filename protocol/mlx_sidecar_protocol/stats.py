"""The result of ``stats``: engine, health, queue, memory, counters and histograms of a sidecar."""

from __future__ import annotations

from collections.abc import Iterable
from math import isinf
from typing import Literal

from pydantic import Field

from .model import Count, Measure, Seconds, Sent
from .notifications import EngineState
from .operations import ServerInfo


class EngineInfo(Sent):
    """The engine process; members that it has not reported yet are absent."""

    state: EngineState
    restarts: Count
    pid: Count | None = None
    backend: str | None = None
    device: str | None = None
    numerics: Literal["fast", "exact"] | None = None
    policy: str | None = Field(
        default=None, description="library and number format of arithmetic, unless a model's card says otherwise"
    )
    versions: dict[str, str] | None = None


class Health(Sent):
    """The health of the engine, and the age of the device's last completed operation; absent before the first."""

    status: Literal["ok", "starting", "degraded", "failed"]
    ready: bool = Field(description="whether a token could be decoded now: a model is resident and the engine keeps up")
    restarts: Count = Field(description="number of times that the engine process was started again")
    last_device_operation_s: Seconds | None = None
    reason: str | None = Field(default=None, description="why status is not ok, or how the engine last ended")


class Histogram(Sent):
    """``counts[i]`` values were at most ``bounds[i]`` and above the bound before; the last count is those above all."""

    bounds: list[float]
    counts: list[Count]

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, int]]) -> Histogram:
        """A histogram from ascending pairs of upper bound and count; an infinite last bound is the overflow."""
        bounds, counts = [], []
        for bound, count in pairs:
            counts.append(count)
            if not isinf(bound):
                bounds.append(bound)
        return cls(bounds=bounds, counts=counts if len(counts) > len(bounds) else [*counts, 0])


class Memory(Sent):
    """Memory in bytes. ``limit_bytes`` is the engine's limit."""

    limit_bytes: Count | None = None
    used_bytes: Count | None = None
    peak_bytes: Count | None = None
    cache_bytes: Count | None = None
    models_bytes: Count | None = None
    front_bytes: Count | None = Field(default=None, description="resident size of the front")
    engine_bytes: Count | None = Field(default=None, description="resident size of the engine process")


class Queue(Sent):
    """Numbers of requests. New ones are refused when ``limit`` requests are waiting."""

    waiting: Count
    running: Count
    limit: Count | None = None


class StatsResult(Sent):
    """The state of the sidecar. New counters, gauges and histograms may be added."""

    server: ServerInfo
    instance: str
    uptime_s: Seconds
    engine: EngineInfo
    health: Health
    queue: Queue
    memory: Memory
    counters: dict[str, int]
    gauges: dict[str, Measure]
    histograms: dict[str, Histogram]

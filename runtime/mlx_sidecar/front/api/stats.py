"""The operation ``stats`` reports on the sidecar, from figures of the engine and of the front."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Literal

from mlx_sidecar_protocol.errors import EngineLost
from mlx_sidecar_protocol.operations import NoParams
from mlx_sidecar_protocol.stats import EngineInfo, Health, Histogram, Memory, Queue, StatsResult

from ...link import control_messages
from ...link import messages as link
from ..server_info import SERVER, waiting_limit
from ..sessions.store import SessionStore
from ..streams.journal import Journal
from ..streams.recovery import Recovery
from ..supervision.supervisor import Supervisor
from .sink import Sink

HealthStatus = Literal["ok", "starting", "degraded", "failed"]

_STATS_WAIT_S = 1.0  # an engine in the middle of an operation answers after it


class Stats:
    """Serves ``stats``, one per front; ``instance`` is the front's."""

    def __init__(
        self, instance: str, *, engine: Supervisor, recovery: Recovery, journal: Journal, sessions: SessionStore
    ) -> None:
        self._instance = instance
        self._engine = engine
        self._recovery = recovery
        self._journal = journal
        self._sessions = sessions
        self._started_at = time.monotonic()

    async def __call__(self, sink: Sink, params: NoParams) -> StatsResult:
        answer, health = await self._examine()
        gauges = dict(answer.gauges) if answer else {}
        queue = Queue(
            waiting=int(gauges.pop("waiting", 0)),
            running=int(gauges.pop("running", 0)),
            limit=waiting_limit(self._engine.ready),
        )
        memory = _memory(gauges, self._engine.ready)
        gauges |= {
            "streams": len(self._recovery.tasks),
            "held": self._recovery.held,
            "journal_bytes": self._journal.held_bytes,
            "sessions": len(self._sessions),
            "sessions_bytes": self._sessions.held_bytes,
        }
        return StatsResult(
            server=SERVER,
            instance=self._instance,
            uptime_s=time.monotonic() - self._started_at,
            engine=_engine_info(self._engine),
            health=health,
            queue=queue,
            memory=memory,
            counters={**(answer.counters if answer else {}), **self._recovery.counters},
            gauges=gauges,
            histograms={name: Histogram.of(pairs) for name, pairs in answer.histograms.items()} if answer else {},
        )

    async def _examine(self) -> tuple[control_messages.EngineStats | None, Health]:
        """The engine's own figures, and its health, judged by whether they come."""
        engine = self._engine
        if not engine.takes_work:
            return None, self._health("failed" if engine.state == "failed" else "starting", engine.reason)
        try:
            answer = await asyncio.wait_for(engine.stats(), _STATS_WAIT_S)
        except EngineLost as error:
            return None, self._health("starting", error.message)
        except TimeoutError:
            because = f"the engine has not answered for {_STATS_WAIT_S} s: one device operation takes that long"
            return None, self._health("degraded", because)
        if self._recovery.isolating:
            return answer, self._health("degraded", "it is being found out which request ends the engine", answers=True)
        return answer, self._health("ok", engine.reason, answers=True)

    def _health(self, status: HealthStatus, reason: str | None, *, answers: bool = False) -> Health:
        """``status`` beside the engine's page, which can be read even while the engine hangs."""
        engine, page = self._engine, self._engine.page
        return Health(
            status=status,
            ready=answers and engine.takes_work and page.models > 0,
            restarts=engine.restarts,
            last_device_operation_s=time.monotonic() - page.ended_s if page.operations else None,
            reason=reason,
        )


def _engine_info(engine: Supervisor) -> EngineInfo:
    told = {
        name: getattr(engine.ready, name, None)
        for name in ("pid", "backend", "device", "numerics", "policy", "versions")
    }
    return EngineInfo(state=engine.state, restarts=engine.restarts, **told)


def _memory(gauges: dict[str, float], ready: link.Ready | None) -> Memory:
    """Takes the device's memory and the models' out of ``gauges``; adds the system's figures of both processes."""
    names = {
        "models_bytes": "models_bytes",
        "used_bytes": "active_bytes",
        "peak_bytes": "peak_bytes",
        "cache_bytes": "cache_bytes",
    }
    known = {name: int(gauges.pop(gauge)) for name, gauge in names.items() if gauge in gauges}
    return Memory(
        limit_bytes=ready.memory_limit_bytes if ready else None,
        front_bytes=_resident_bytes(os.getpid()),
        engine_bytes=_resident_bytes(ready.pid) if ready else None,
        **known,
    )


def _resident_bytes(pid: int) -> int | None:
    import psutil  # 36 ms of start-up that only stats needs

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return None

"""The supervisor holds the front's end of the engine: it sends, receives, and notices when the engine is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TypeVar

from mlx_sidecar_protocol import errors
from mlx_sidecar_protocol.notifications import EngineState

from ...config import Config
from ...containment import CONTROL_FLOW, contained
from ...link.adapter_messages import AdapterLoaded, Adapters, AdapterUnloaded, LoadAdapter, QueryAdapters, UnloadAdapter
from ...link.cache_messages import (
    CacheCleared,
    CacheFigures,
    CacheMoved,
    ClearCache,
    ExportCache,
    ImportCache,
    QueryCache,
)
from ...link.codec import Unreadable, encode
from ...link.control_messages import EngineStats, Load, Loaded, Models, QueryModels, QueryStats, Unload, Unloaded
from ...link.faults import error_from
from ...link.heartbeat_page import Snapshot
from ...link.messages import Cancel, Fault, Pause, Ready, Reply, Resume, Submit, ToFront, Vocabulary
from .engine_client import EngineClient
from .engine_connection import EngineConnection
from .engine_process import EngineProcess, spawn
from .engine_status import EngineStatus
from .incoming import Incoming
from .pending_calls import Control, OnProgress, PendingCalls
from .restart_policy import Life
from .succession import Succession

R = TypeVar("R", bound=Reply)
Spawn = Callable[[Config], EngineProcess]

# Hosts see this name in `log` notifications, so it stays while files move.
log = logging.getLogger("mlx_sidecar.link.supervisor")


class Supervisor:
    """The one way from the front to the engine, and back; lives on the front's event loop.

    A control request waits for an engine, and outlives the engine it was sent to. A sequence goes only to an engine
    that takes work.
    """

    def __init__(
        self,
        config: Config,
        client: EngineClient,
        on_state: Callable[[EngineState, str | None], None],
        start_engine: Spawn | None = None,
    ) -> None:
        """``start_engine`` starts each engine after the first; by default ``spawn`` does."""
        self._config = config
        self._client = client
        self._start_engine = start_engine
        self._ops = count(1)
        self._calls = PendingCalls()
        self._incoming = Incoming(client, self._calls, self._became_ready, self._refused)
        self._engine: EngineConnection | None = None
        self._status = EngineStatus(on_state)
        self._succession = Succession(self._status, self._start_next, self._given_up)
        self.ready: Ready | None = None

    async def start(self, engine: EngineProcess) -> None:
        """Attach to ``engine``, a process already spawned, and send it the control requests still unanswered."""
        self._engine = EngineConnection(
            engine, lambda: self._calls.unanswered, self._receive, self._closed, self._config.stall_after_s
        )
        await self._engine.attach()

    async def stop(self) -> None:
        """End the engine for good. Nothing of it is left when this returns, unless the system cannot end it."""
        self._status.enter("stopped")
        self._succession.cancel()
        self._calls.fail(errors.ShuttingDown)
        if (engine := self._engine) is not None:
            self._engine = self.ready = None
            await engine.wait_ended()

    # To the engine.

    @property
    def takes_work(self) -> bool:
        """Whether there is an engine that has said Ready and is not known to hang."""
        return self._engine is not None and self.ready is not None and self._engine.takes_work

    def submit(self, message: Submit | Vocabulary) -> None:
        """Queue ``message``. Raises EngineLost, EngineStalled or the engine's refusal to serve if none takes work."""
        if self._engine is None or not self.takes_work:
            raise self._away()
        self._engine.write(message)

    def post(self, message: Cancel | Pause | Resume) -> None:
        """Send the engine a message about a sequence. Idempotent; without an engine there is no sequence to change."""
        if self._engine is not None:
            self._engine.write(message)

    async def load(self, message: Load, on_progress: OnProgress | None = None, *, urgent: bool = False) -> Loaded:
        """Make a model resident. Raises the engine's refusal, and EngineLost if the load ended two engines.

        ``urgent`` as in ``wake``.
        """
        self.wake(urgent=urgent)
        return await self._call(message, Loaded, on_progress)

    async def unload(self, message: Unload) -> Unloaded:
        self.wake()
        return await self._call(message, Unloaded)

    async def load_adapter(self, message: LoadAdapter) -> AdapterLoaded:
        """Let requests name an adapter. Raises the engine's refusal."""
        self.wake()
        return await self._call(message, AdapterLoaded)

    async def unload_adapter(self, message: UnloadAdapter) -> AdapterUnloaded:
        """Wait until no request uses an adapter any more, and it is gone. Raises the engine's refusal."""
        self.wake()
        return await self._call(message, AdapterUnloaded)

    async def adapters(self, message: QueryAdapters) -> Adapters:
        self.wake()
        return await self._call(message, Adapters)

    async def models(self) -> Models:
        self.wake()
        return await self._call(QueryModels(self.next_op()), Models)

    async def stats(self) -> EngineStats:
        """Counters of the present engine. Raises EngineLost if there is none, or it is lost meanwhile."""
        return await self._query(QueryStats(self.next_op()), EngineStats)

    async def cache(self) -> CacheFigures:
        """Contents of the present engine's cache. Raises EngineLost if there is none, or it is lost meanwhile."""
        return await self._query(QueryCache(self.next_op()), CacheFigures)

    async def clear_cache(self, message: ClearCache) -> CacheCleared:
        """Forget cached blocks. Raises the engine's refusal."""
        self.wake()
        return await self._call(message, CacheCleared)

    async def move_cache(self, message: ExportCache | ImportCache) -> CacheMoved:
        """Export or import a cache file. Raises the engine's refusal, and EngineLost if it is lost meanwhile."""
        self.wake()
        return await self._call(message, CacheMoved)

    def next_op(self) -> int:
        return next(self._ops)

    def wake(self, *, urgent: bool = False) -> None:
        """If engines were given up, start one more if it may be tried; raises as ``Succession.wake``."""
        self._succession.wake(urgent=urgent)

    def restored(self) -> None:
        """Enter ``ready``: the engine has its models and sequences again. Idempotent."""
        if self.takes_work and self.state != "ready":
            self._status.reason = None
            self._status.enter("ready")

    # How it is.

    @property
    def state(self) -> EngineState:
        return self._status.state

    @property
    def reason(self) -> str | None:
        """Why there is no engine, or how the last one ended while the next is not ready; else None."""
        return self._status.reason

    @property
    def restarts(self) -> int:
        return self._status.restarts

    @property
    def page(self) -> Snapshot:
        """The engine's last heartbeat; an empty one if there is no engine."""
        return Snapshot() if self._engine is None else self._engine.page

    # From the engine.

    async def _query(self, message: QueryStats | QueryCache, reply: type[R]) -> R:
        if self._engine is None:
            raise self._away()
        return await self._call(message, reply)

    async def _call(self, message: Control, reply: type[R], on_progress: OnProgress | None = None) -> R:
        frame = encode(message)  # a message that cannot be encoded fails here, not when the next engine is sent it
        future = self._calls.add(message, on_progress)
        try:
            if self._engine is not None:
                self._engine.write_frame(frame)
            answer = await future
        finally:
            self._calls.forget(message.op)
        assert isinstance(answer, reply)
        return answer

    def _receive(self, engine: EngineConnection, message: ToFront | Unreadable) -> None:
        if engine is self._engine:  # else it was lost meanwhile
            self._incoming.take(engine, message)

    def _became_ready(self, engine: EngineConnection, message: Ready) -> None:
        self.ready = message
        engine.became_ready()
        self._client.on_engine_ready()

    def _refused(self, engine: EngineConnection, fault: Fault) -> None:
        if error_from(fault).retryable:  # e.g. a device without memory now may have some later
            engine.kill_because(str(fault.details.get("because", fault.message)))
        else:
            self._status.refusal = fault

    # Death and succession.

    def _closed(self, engine: EngineConnection) -> None:
        if engine is self._engine and self.state != "stopped":
            self.ready = None
            self._succession.replace(partial(self._lose, engine))

    async def _lose(self, engine: EngineConnection) -> Life | None:
        """Wait for the end of ``engine`` and tell callers; returns how useful it was, None if it refused to serve."""
        try:
            last = await engine.wait_ended()
        finally:
            self._engine = None
        status = self._status
        status.stalled = engine.stalled
        status.reason = because = status.refusal.message if status.refusal else engine.because
        log.warning("the engine was lost: %s", because)
        if status.refusal is not None:
            return None
        status.enter("lost", because)
        learnt = self._learnt_from(last, because, forced=engine.forced, starved=engine.starved)
        return Life.USEFUL if learnt else engine.life

    def _learnt_from(self, last: Snapshot, because: str, *, forced: bool, starved: bool) -> bool:
        """Tell callers and client that the engine was lost; returns whether its death showed its cause."""
        running = last.ids if last.kind in ("step", "message") else ()
        loading = last.ids if last.kind == "load" else ()
        # ``starved`` is blamed on the load: one that takes more memory than there is gets every engine killed.
        learnt = self._calls.survive(loading, because, forced=forced and not starved)
        with contained(log, "the loss of the engine could not be taken in"):
            learnt |= self._client.on_engine_lost(frozenset(running), because, forced=forced)
        return learnt

    async def _start_next(self) -> None:
        """Spawn an engine and attach to it; an engine that cannot be attached to is ended."""
        # On this thread, because Linux ends an engine together with the thread that started it.
        engine = (self._start_engine or spawn)(self._config)
        try:
            await self.start(engine)
        except CONTROL_FLOW:
            raise  # ``stop`` ends the engine
        except BaseException:
            self._engine = None
            engine.discard()
            raise

    def _given_up(self) -> None:
        self._calls.fail(self._away)
        with contained(log, "that engines were given up could not be taken in"):
            self._client.on_given_up(self._away())

    def _away(self) -> errors.RpcError:
        """The error for a request that finds no engine."""
        return self._status.error(stalled=self._engine is not None and self._engine.stalled)

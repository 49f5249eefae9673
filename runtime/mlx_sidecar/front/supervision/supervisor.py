"""The front's hold on the engine: talks to it, notices that it died or hangs, and starts the next one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TypeVar

from mlx_sidecar_protocol import errors
from mlx_sidecar_protocol.notifications import EngineState

from ...config import Config
from ...containment import CONTROL_FLOW, LEAVING, contained
from ...link.codec import Unreadable, encode
from ...link.faults import error_from
from ...link.heartbeat_page import Snapshot
from ...link.messages import (
    CacheCleared,
    CacheFigures,
    CacheMoved,
    Cancel,
    ClearCache,
    Dropped,
    EngineStats,
    Evicted,
    ExportCache,
    Fault,
    Finished,
    ImportCache,
    Load,
    Loaded,
    Models,
    Pause,
    Progress,
    QueryCache,
    QueryModels,
    QueryStats,
    Ready,
    Refused,
    Resume,
    Submit,
    Timing,
    ToFront,
    Tokens,
    Unload,
    Unloaded,
)
from .engine_client import EngineClient
from .engine_connection import EngineConnection
from .engine_process import EngineProcess, spawn
from .engine_status import EngineStatus
from .pending_calls import Control, OnProgress, PendingCalls, Reply
from .restart_policy import Life
from .succession import Succession

__all__ = ["EngineClient", "Supervisor", "error_from"]

R = TypeVar("R", bound=Reply)

# Hosts see this name in `log` notifications, so it stays while files move.
log = logging.getLogger("mlx_sidecar.link.supervisor")


class Supervisor:
    """Lives on the front's event loop. ``start`` attaches to a process that was spawned before the loop existed.

    Control requests wait for an engine, and outlive the one they were sent to. Work is for an engine that takes it.
    """

    def __init__(
        self, config: Config, client: EngineClient, on_state: Callable[[EngineState, str | None], None]
    ) -> None:
        self._config = config
        self._client = client
        self._ops = count(1)
        self._calls = PendingCalls()
        self._engine: EngineConnection | None = None
        self._status = EngineStatus(on_state)
        self._succession = Succession(self._status, self._start_next, self._given_up)
        self.ready: Ready | None = None

    async def start(self, engine: EngineProcess) -> None:
        """Attach to ``engine``, and ask it what is still unanswered."""
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

    def send(self, message: Submit) -> None:
        """Queue ``message``. Raises EngineLost, EngineStalled or why no engine can serve, if none takes work."""
        if self._engine is None or not self.takes_work:
            raise self._away()
        self._engine.write(message)

    def tell(self, message: Cancel | Pause | Resume) -> None:
        """What becomes of a sequence. Idempotent; with the engine away there is no sequence to speak of."""
        if self._engine is not None:
            self._engine.write(message)

    async def load(self, message: Load, on_progress: OnProgress | None = None, *, urgent: bool = False) -> Loaded:
        """Raises what the engine answers, and EngineLost if it ended two engines. ``urgent`` as in ``wake``."""
        self.wake(urgent=urgent)
        return await self._call(message, Loaded, on_progress)

    async def unload(self, message: Unload) -> Unloaded:
        self.wake()
        return await self._call(message, Unloaded)

    async def models(self) -> Models:
        self.wake()
        return await self._call(QueryModels(self.next_op()), Models)

    async def stats(self) -> EngineStats:
        """The figures of the engine there is. Raises EngineLost if there is none, or it is lost meanwhile."""
        if self._engine is None:
            raise self._away()
        return await self._call(QueryStats(self.next_op()), EngineStats)

    async def cache(self) -> CacheFigures:
        """What the engine that there is has cached. Raises EngineLost if there is none, or it is lost meanwhile."""
        if self._engine is None:
            raise self._away()
        return await self._call(QueryCache(self.next_op()), CacheFigures)

    async def clear_cache(self, message: ClearCache) -> CacheCleared:
        """Raises what the engine answers."""
        self.wake()
        return await self._call(message, CacheCleared)

    async def move_cache(self, message: ExportCache | ImportCache) -> CacheMoved:
        """Raises what the engine answers, and EngineLost if it is lost meanwhile."""
        self.wake()
        return await self._call(message, CacheMoved)

    def next_op(self) -> int:
        return next(self._ops)

    def wake(self, *, urgent: bool = False) -> None:
        """Where engines were given up, start one more if it may be tried; raises what ``Succession.wake`` raises."""
        self._succession.wake(urgent=urgent)

    def restored(self) -> None:
        """The engine holds what it should: it is ready for the host. Idempotent."""
        if self.takes_work and self.state != "ready":
            self._status.reason = None
            self._status.enter("ready")

    # How it is.

    @property
    def state(self) -> EngineState:
        return self._status.state

    @property
    def reason(self) -> str | None:
        """Why there is no engine, or what ended the last one while the next is not ready."""
        return self._status.reason

    @property
    def restarts(self) -> int:
        return self._status.restarts

    @property
    def page(self) -> Snapshot:
        """What the engine noted last; an empty page where there is no engine."""
        return Snapshot() if self._engine is None else self._engine.page

    # From the engine.

    async def _call(self, message: Control, reply: type[R], on_progress: OnProgress | None = None) -> R:
        frame = encode(message)  # what cannot be said fails here, for its caller alone, and not with the next engine
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
        if engine is not self._engine:  # it was lost meanwhile
            return
        try:
            self._handle(engine, message)
        except LEAVING:
            raise
        except BaseException:
            # A bug of ours, and no reason to lose what else the engine is doing.
            log.exception("a message of the engine could not be taken in")
            if isinstance(message, Reply | Refused):
                self._calls.settle(message.op, errors.InternalError())

    def _handle(self, engine: EngineConnection, message: ToFront | Unreadable) -> None:
        match message:
            case Unreadable():
                self._unread(engine, message)
            case Tokens():
                engine.decoded = True
                self._client.on_tokens(message)
            case Finished():
                self._client.on_finished(message)
            case Dropped():
                self._client.on_dropped(message)
            case Evicted():
                self._client.on_evicted(message.model)
            case Progress():
                self._calls.progressed(message)
            case Ready():
                self.ready = message
                engine.became_ready()
                self._client.on_engine_ready()
            case Refused(op=0):  # the engine cannot serve, and says why before it leaves
                self._refused(engine, message.fault)
            case Refused():
                self._calls.settle(message.op, error_from(message.fault))
            case _:
                engine.loaded |= isinstance(message, Loaded)
                self._calls.settle(message.op, message)

    def _unread(self, engine: EngineConnection, message: Unreadable) -> None:
        """What was asked ends; the engine goes on, for it is one value of a file or a host that it could not tell."""
        log.error("a %s of the engine cannot be read", message.type)
        if message.op and message.type != Progress.__name__:
            self._calls.settle(message.op, errors.InternalError())
        elif message.seq:
            engine.write(Cancel(message.seq))
            fault = Fault(errors.InternalError.kind, errors.InternalError().message)
            self._client.on_finished(Finished(message.seq, "error", True, Timing(), fault=fault))

    def _refused(self, engine: EngineConnection, fault: Fault) -> None:
        if error_from(fault).retryable:  # a device without room now may have it later
            engine.kill_because(str(fault.details.get("because", fault.message)))
        else:
            self._status.refusal = fault

    # Death and succession.

    def _closed(self, engine: EngineConnection) -> None:
        if engine is self._engine and self.state != "stopped":
            self.ready = None
            self._succession.replace(partial(self._lose, engine))

    async def _lose(self, engine: EngineConnection) -> Life | None:
        """Wait for the end of ``engine`` and tell callers; returns what came of it, None if it refused to serve."""
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
        """Tell callers and client that the engine was lost; returns whether its death showed what causes it."""
        running = last.ids if last.kind in ("step", "message") else ()
        loading = last.ids if last.kind == "load" else ()
        # A load that takes more memory than there is ends engines by the kernel's hand, and does so each time.
        learnt = self._calls.survive(loading, because, forced=forced and not starved)
        with contained(log, "the loss of the engine could not be taken in"):  # the next one starts anyway
            learnt |= self._client.on_engine_lost(frozenset(running), because, forced=forced)
        return learnt

    async def _start_next(self) -> None:
        """Spawn an engine and attach to it; an engine that cannot be attached to is ended."""
        # On this thread: the system ends an engine with the thread that started it.
        engine = spawn(self._config)
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
        """Why there is no engine to talk to."""
        return self._status.error(stalled=self._engine is not None and self._engine.stalled)

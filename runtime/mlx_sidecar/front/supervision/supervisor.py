"""The front's hold on the engine: talks to it, notices that it died or hangs, and starts the next one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, TypeVar

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
from .pending_calls import Control, OnProgress, PendingCalls, Reply
from .restart_policy import REST_S, Life, RestartPolicy

__all__ = ["EngineClient", "Supervisor", "error_from"]

R = TypeVar("R", bound=Reply)
Spawn = Callable[[Config], EngineProcess]

# Hosts see this name in `log` notifications, so it stays while files move.
log = logging.getLogger("mlx_sidecar.link.supervisor")


class Supervisor:
    """Lives on the front's event loop. ``start`` attaches to a process that was spawned before the loop existed.

    Control requests wait for an engine, and outlive the one they were sent to. Work is for an engine that takes it.
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
        self._on_state = on_state
        self._start_engine = start_engine
        self._ops = count(1)
        self._calls = PendingCalls()
        self._restart_policy = RestartPolicy()
        self._engine: EngineConnection | None = None
        self._succession: asyncio.Task[None] | None = None
        self._refusal: Fault | None = None
        self._stalled = False  # what ended the last engine
        self.state: EngineState = "starting"
        self.ready: Ready | None = None
        self.restarts = 0
        self.reason: str | None = None

    async def start(self, engine: EngineProcess) -> None:
        """Attach to ``engine``, and ask it what is still unanswered."""
        self._engine = EngineConnection(
            engine, lambda: self._calls.unanswered, self._receive, self._closed, self._config.stall_after_s
        )
        await self._engine.attach()

    async def stop(self) -> None:
        """End the engine for good. Nothing of it is left when this returns, unless the system cannot end it."""
        self._enter("stopped", None)
        if self._succession is not None:
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
        """Where engines were given up: try one more if it is ``urgent`` or some time has passed.

        Raises why there is none, if it is not time to try, if no engine can serve as configured, or if we are leaving.
        """
        if self.state == "stopped":
            raise errors.ShuttingDown
        if self.state != "failed":
            return
        if self._refusal is not None or not (urgent or self._restart_policy.may_try(time.monotonic())):
            raise self._away()
        self._starting()
        self._follow(self._succeed(0.0))

    def restored(self) -> None:
        """The engine holds what it should: it is ready for the host. Idempotent."""
        if self.takes_work and self.state != "ready":
            self.reason = None
            self._enter("ready", None)

    # How it is.

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
            self._refusal = fault

    # Death and succession.

    def _closed(self, engine: EngineConnection) -> None:
        if engine is self._engine and self.state != "stopped":
            self.ready = None
            self._follow(self._replace(engine))

    def _follow(self, course: Coroutine[Any, Any, None]) -> None:
        self._succession = asyncio.get_running_loop().create_task(self._to_an_end(course))

    async def _to_an_end(self, course: Coroutine[Any, Any, None]) -> None:
        """Run what is to bring the next engine. If that fails there is none, and it is said: nobody waits for it."""
        try:
            await course
        except CONTROL_FLOW:
            raise
        except BaseException as error:
            log.exception("the next engine could not be started")
            self._stalled, self.reason = False, f"it cannot be started: {error!r}"
            self._restart_policy.gave_up(time.monotonic())
            self._give_up()

    async def _replace(self, engine: EngineConnection) -> None:
        try:
            last = await engine.wait_ended()
        finally:
            self._engine = None
        self._stalled = engine.stalled
        self.reason = self._refusal.message if self._refusal else engine.because
        log.warning("the engine was lost: %s", self.reason)
        if self._refusal is not None:  # it will not change by trying again
            self._give_up()
            return
        self._enter("lost", self.reason)
        learnt = self._learnt_from(last, self.reason, forced=engine.forced, starved=engine.starved)
        life = Life.USEFUL if learnt else engine.life
        await self._succeed(self._restart_policy.died(life, time.monotonic()))

    def _learnt_from(self, last: Snapshot, because: str, *, forced: bool, starved: bool) -> bool:
        """Tell those whose engine it was; whether its death showed what causes it."""
        running = last.ids if last.kind in ("step", "message") else ()
        loading = last.ids if last.kind == "load" else ()
        # A load that takes more memory than there is ends engines by the kernel's hand, and does so each time.
        learnt = self._calls.survive(loading, because, forced=forced and not starved)
        with contained(log, "the loss of the engine could not be taken in"):  # the next one starts anyway
            learnt |= self._client.on_engine_lost(frozenset(running), because, forced=forced)
        return learnt

    async def _succeed(self, delay_s: float | None) -> None:
        """Start the next engine after ``delay_s``; None: there is none to start."""
        while delay_s is not None:
            await asyncio.sleep(delay_s)
            if self.state != "starting":
                self._starting()
            try:
                # On this thread: the system ends an engine with the thread that started it.
                await self._begin((self._start_engine or spawn)(self._config))
            except CONTROL_FLOW:
                raise
            except BaseException as error:  # noqa: BLE001 - most often for want of memory or descriptors: told
                self._stalled, self.reason = False, f"it cannot be started: {error}"
                log.error("the engine %s", self.reason.removeprefix("it "))
                self._enter("lost", self.reason)
                delay_s = self._restart_policy.died(Life.USELESS, time.monotonic())
            else:
                return
        self._give_up()

    async def _begin(self, engine: EngineProcess) -> None:
        """Attach to ``engine``; what cannot be attached to is ended."""
        try:
            await self.start(engine)
        except CONTROL_FLOW:
            raise  # ``stop`` ends the engine
        except BaseException:
            self._engine = None
            engine.discard()
            raise

    def _give_up(self) -> None:
        if self._refusal is None:
            last = f"it ended {self._restart_policy.in_a_row} times in a row, last: {self.reason}"
            self.reason = f"{last}; a load tries again, and so does any request after {REST_S:g} s"
        self._enter("failed", self.reason)
        self._calls.fail(self._away)
        with contained(log, "that engines were given up could not be taken in"):
            self._client.on_given_up(self._away())

    def _away(self) -> errors.RpcError:
        """Why there is no engine to talk to; made anew for each request, since a raised error keeps its frames."""
        if self.state == "stopped":
            return errors.ShuttingDown()
        if self._refusal is not None:
            return error_from(self._refusal)
        stalled = self._stalled or (self._engine is not None and self._engine.stalled)
        return (errors.EngineStalled if stalled else errors.EngineLost)(self.reason or "it is being started")

    def _starting(self) -> None:
        self.restarts += 1
        self._enter("starting", None)

    def _enter(self, state: EngineState, reason: str | None) -> None:
        self.state = state
        with contained(log, "the state of the engine could not be told"):
            self._on_state(state, reason)

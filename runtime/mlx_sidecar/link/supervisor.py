"""The front's hold on the engine: sends, receives, notices death, answers what died with it, starts it again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol, TypeVar

from mlx_sidecar_protocol import errors
from mlx_sidecar_protocol.notifications import EngineState

from ..config import Config
from .codec import Decoder, encode
from .messages import (
    Cancel,
    EngineStats,
    Fault,
    Finished,
    Load,
    Loaded,
    Models,
    Pause,
    Progress,
    QueryModels,
    QueryStats,
    Ready,
    Refused,
    Resume,
    Stop,
    ToEngine,
    ToFront,
    Tokens,
    Unload,
    Unloaded,
)
from .process import EngineProcess, spawn

Reply = Loaded | Unloaded | Models | EngineStats
R = TypeVar("R", bound=Reply)

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_STABLE_AFTER_S = 10.0  # an engine that lived this long starts the back-off anew
_READ_BYTES = 16 * 1024  # some 600 events: after so many the loop looks at what else there is to do

log = logging.getLogger(__name__)


class SequenceSink(Protocol):
    """Who hears of sequences: the stream registry."""

    def on_tokens(self, message: Tokens) -> None: ...
    def on_finished(self, message: Finished) -> None: ...
    def on_engine_lost(self, error: errors.RpcError) -> None: ...


def error_from(fault: Fault) -> errors.RpcError:
    """The wire error a fault names. Its class fixes code, kind and retryable; the fault brings message and details."""
    cls = _BY_KIND.get(fault.kind, errors.InternalError)
    if cls is errors.InvalidParams:  # hosts are promised a list of fields; the first of them crossed the link
        field = str(fault.details["field"])
        return errors.InvalidParams.field(field, fault.message.removeprefix(f"{field}: "))
    error = cls.__new__(cls)
    errors.RpcError.__init__(error, fault.message, **fault.details)
    return error


def _kinds(cls: type[errors.RpcError]) -> dict[str, type[errors.RpcError]]:
    found = {cls.kind: cls} if "kind" in vars(cls) else {}
    for sub in cls.__subclasses__():
        found |= _kinds(sub)
    return found


_BY_KIND = _kinds(errors.RpcError)


class Supervisor:
    """Lives on the front's event loop. ``start`` attaches to a process that was spawned before the loop existed."""

    def __init__(self, config: Config, sink: SequenceSink, on_state: Callable[[EngineState, str | None], None]) -> None:
        self._config = config
        self._sink = sink
        self._on_state = on_state
        self._ops = count(1)
        self._calls: dict[int, tuple[asyncio.Future[Any], Callable[[Progress], None] | None]] = {}
        self._transport: asyncio.Transport | None = None
        self._engine: EngineProcess | None = None
        self._restart: asyncio.Task[None] | None = None
        self._backoff_s = _FIRST_BACKOFF_S
        self._started_at = 0.0
        self._refusal: Fault | None = None
        self.state: EngineState = "starting"
        self.ready: Ready | None = None
        self.restarts = 0
        self.reason: str | None = None

    async def start(self, engine: EngineProcess) -> None:
        self._engine = engine
        self._started_at = time.monotonic()
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: _Link(self._receive, self._lost), sock=engine.link)

    async def stop(self) -> None:
        """End the engine for good. Nothing of it is left when this returns."""
        self._enter("stopped", None)
        if self._restart is not None:
            self._restart.cancel()
        if self._transport is not None:
            self._transport.write(encode(Stop()))
            self._transport.close()
        if self._engine is not None:
            self._engine.kill()
        self._fail_calls(errors.ShuttingDown())

    def send(self, message: ToEngine) -> None:
        """Queue ``message``. While the engine is away it is answered as lost, never kept for the next one."""
        if self._transport is None:
            raise self._away()
        self._transport.write(encode(message))

    def tell(self, message: Cancel | Pause | Resume) -> None:
        """What becomes of a sequence. Idempotent; with the engine away there is no sequence to speak of."""
        if self._transport is not None:
            self._transport.write(encode(message))

    async def load(self, message: Load, on_progress: Callable[[Progress], None] | None = None) -> Loaded:
        return await self._call(message, Loaded, on_progress)

    async def unload(self, message: Unload) -> Unloaded:
        return await self._call(message, Unloaded)

    async def models(self) -> Models:
        return await self._call(QueryModels(self.next_op()), Models)

    async def stats(self) -> EngineStats:
        return await self._call(QueryStats(self.next_op()), EngineStats)

    def next_op(self) -> int:
        return next(self._ops)

    async def _call(
        self,
        message: Load | Unload | QueryModels | QueryStats,
        reply: type[R],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> R:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self.send(message)
        self._calls[message.op] = (future, on_progress)
        try:
            answer = await future
        finally:
            self._calls.pop(message.op, None)
        assert isinstance(answer, reply)
        return answer

    def _receive(self, message: ToFront) -> None:
        match message:
            case Tokens():
                self._sink.on_tokens(message)
            case Finished():
                self._sink.on_finished(message)
            case Progress():
                _, on_progress = self._calls.get(message.op, (None, None))
                if on_progress is not None:
                    on_progress(message)
            case Ready():
                self.ready, self.reason = message, None
                self._enter("ready", None)
            case Refused(op=0):  # the engine cannot serve as configured, and says why before it leaves
                self._refusal = message.fault
            case Refused():
                self._settle(message.op, error_from(message.fault))
            case _:
                self._settle(message.op, message)

    def _settle(self, op: int, outcome: Reply | errors.RpcError) -> None:
        future, _ = self._calls.pop(op, (None, None))
        if future is None or future.done():  # its caller was cancelled meanwhile
            return
        if isinstance(outcome, errors.RpcError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _lost(self) -> None:
        if self.state == "stopped" or self._engine is None:
            return
        self._engine.process.kill()  # a closed link with a living engine behind it is a dead engine too
        self.reason = self._refusal.message if self._refusal else self._engine.exit_reason
        log.warning("the engine was lost: %s", self.reason)
        self._transport = self.ready = None
        error = self._away()
        self._enter("failed" if self._refusal else "lost", self.reason)
        self._fail_calls(error)
        self._sink.on_engine_lost(error)
        if self._refusal is None:  # a refusal will not change by trying again
            self._restart = asyncio.get_running_loop().create_task(self._start_again())

    async def _start_again(self) -> None:
        if time.monotonic() - self._started_at > _STABLE_AFTER_S:
            self._backoff_s = _FIRST_BACKOFF_S
        while (engine := await self._spawn_later()) is None:
            self._enter("lost", self.reason)
        await self.start(engine)

    async def _spawn_later(self) -> EngineProcess | None:
        """An engine after the back-off; None if the system has no room for one now."""
        await asyncio.sleep(self._backoff_s)
        self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_S)
        self.restarts += 1
        self._enter("starting", None)
        try:
            return spawn(self._config)
        except OSError as error:
            self.reason = f"it cannot be started: {error}"
            log.error("the engine %s", self.reason.removeprefix("it "))
            return None

    def _away(self) -> errors.RpcError:
        """Why there is no engine to talk to; made anew for each request, since a raised error keeps its frames."""
        if self._refusal is not None:
            return error_from(self._refusal)
        return errors.EngineLost(self.reason or "it is being started")

    def _fail_calls(self, error: errors.RpcError) -> None:
        for future, _ in self._calls.values():
            if not future.done():
                future.set_exception(error)
        self._calls.clear()

    def _enter(self, state: EngineState, reason: str | None) -> None:
        self.state = state
        self._on_state(state, reason)


class _Link(asyncio.BufferedProtocol):
    """The asyncio end of the socket."""

    def __init__(self, receive: Callable[[ToFront], None], lost: Callable[[], None]) -> None:
        self._decoder: Decoder[ToFront] = Decoder(ToFront)  # type: ignore[arg-type]  # a union is not a type[T]
        self._buffer = bytearray(_READ_BYTES)
        self._receive = receive
        self._lost = lost

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        for message in self._decoder.feed(bytes(self._buffer[:nbytes])):
            self._receive(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

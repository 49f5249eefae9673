"""The front, put together: which part gets which, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Any

import anyio

from mlx_sidecar_protocol.envelope import encode_notification
from mlx_sidecar_protocol.generate import GenerateParams
from mlx_sidecar_protocol.lifecycle import negotiate
from mlx_sidecar_protocol.limits import Limits
from mlx_sidecar_protocol.model import Received, Sent
from mlx_sidecar_protocol.notifications import EngineState, EngineStateParams
from mlx_sidecar_protocol.operations import (
    CacheTiers,
    InitializeParams,
    InitializeResult,
    ServerCapabilities,
    ServerLimits,
)
from mlx_sidecar_protocol.registry import METHODS

from ..config import Config
from ..engine.scheduling.scheduler import Limits as QueueLimits
from ..observe import logs
from .api.cache import CacheHandlers
from .api.generate import Generator
from .api.model_catalog import ModelCatalog
from .api.operations import SERVER, Operations
from .streams.journal import Journal
from .streams.recovery import Recovery
from .streams.registry import Streams
from .supervision.engine_process import EngineProcess
from .supervision.supervisor import Supervisor
from .supervision.text_pool import TextPool
from .wire.bounds import Bounds
from .wire.dispatcher import Method
from .wire.mailbox import Mailbox
from .wire.reader import Reader
from .wire.session import Session
from .wire.shutdown_triggers import on_signals, until_orphaned
from .wire.writer import Writer

_WATCH_AGAIN_S = 0.5

log = logging.getLogger(__name__)

# A stream that runs on after shutdown may need them to end.
_FOR_WHAT_RUNS = ("stream/ack", "stream/cancel")
_HEAVY = ("tokenize", "detokenize", "render")


def run(config: Config, parent: int, reader: Reader, wire_out: int, engine: EngineProcess) -> int:
    """Serve until the host leaves; returns the exit status. No engine is left behind."""
    logs.to_stderr(config.log_level)
    # Not anyio.run: at its end that waits for threads, and a download in one is not worth waiting for.
    return asyncio.new_event_loop().run_until_complete(_Front(config, parent, reader, wire_out).run(engine))


class _Front:
    def __init__(self, config: Config, parent: int, reader: Reader, wire_out: int) -> None:
        self._config = config
        self._parent = parent
        self._instance = uuid.uuid4().hex
        self._state_told = False
        self._limits = Limits(
            frame_bytes=config.frame_limit_bytes,
            batch=config.batch_limit,
            nesting=config.nesting_limit,
            values=config.values_limit,
        )
        self._mailbox = Mailbox()
        self._streams = Streams(self._mailbox, lambda message: self._recovery.post(message))
        self._journal = Journal(config.journal_limit_bytes)
        self._recovery = Recovery(self._journal)
        self._engine = Supervisor(config, self._recovery, self._on_engine_state)
        self._texts = TextPool(config)
        self._catalog = ModelCatalog(config, self._engine, self._texts)
        self._recovery.attach(self._engine, self._catalog)
        self._session = Session(
            self._methods(),
            self._initialize,
            reader,
            Writer(wire_out, self._mailbox),
            self._mailbox,
            config.framing,
            self._limits,
            Bounds(self._mailbox, config.requests_limit_bytes, config.answers_limit_bytes),
            self._streams.lift_windows,
        )

    async def run(self, engine: EngineProcess) -> int:
        on_signals(self._session.end)
        await self._engine.start(engine)
        if self._config.engine != "fake":
            self._texts.start()
        status = 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._leave_with_the_host)
                status = await self._session.run()
                tasks.cancel_scope.cancel()
        finally:
            self._texts.stop()
            await self._engine.stop()
        return status

    async def _leave_with_the_host(self) -> None:
        watched = False
        while not watched:
            try:
                await until_orphaned(self._parent, lambda: self._session.host_process_id)
                watched = True
            except OSError:  # for want of descriptors, most likely
                log.exception("the host cannot be watched now")
                await anyio.sleep(_WATCH_AGAIN_S)
        self._session.end(1, host_is_gone=True)

    def _methods(self) -> list[Method[Any]]:
        handlers = Operations(
            self._instance, self._catalog, self._streams, self._recovery, self._journal, self._engine, self._notify
        )
        caching = CacheHandlers(self._catalog, self._recovery, self._engine)
        tasks: dict[str, Callable[..., Any]] = {
            "generate": Generator(self._catalog, self._streams, self._recovery),
            "load": handlers.load,
            "unload": handlers.unload,
            "models": handlers.models,
            "tokenize": handlers.tokenize,
            "detokenize": handlers.detokenize,
            "render": handlers.render,
            "stats": handlers.stats,
            "cache/stats": caching.stats,
            "cache/clear": caching.clear,
            "cache/warm": caching.warm,
            "cache/export": caching.export,
            "cache/import": caching.import_,
        }
        quick: dict[str, Callable[..., Any]] = {
            "stream/cancel": handlers.stream_cancel,
            "stream/subscribe": handlers.stream_subscribe,
            "stream/ack": handlers.stream_ack,
            "rpc.discover": handlers.discover,
        }
        methods = [_method(name, handler, quick=False) for name, handler in tasks.items()]
        methods += [_method(name, handler, quick=True) for name, handler in quick.items()]
        if self._config.fixtures:
            from .api.fixtures import Fixtures

            methods += Fixtures().methods()
        return methods

    def _initialize(self, params: InitializeParams) -> InitializeResult:
        logs.to_host(lambda record: self._notify("log", record))
        # Behind the answer: what the engine is doing now. Later changes follow by themselves, or have come first.
        self._state_told = False
        asyncio.get_running_loop().call_soon(self._tell_first_state)
        ready = self._engine.ready
        return InitializeResult(
            protocol_version=negotiate(params.protocol_version),
            server=SERVER,
            instance=self._instance,
            backend=ready.backend if ready else None,
            capabilities=ServerCapabilities(
                methods=[name for name, spec in METHODS.items() if spec.direction == "host-to-sidecar"],
                generate_parameters=list(GenerateParams.model_fields),
                autoload=self._config.autoload,
                cache=CacheTiers(ram=self._config.caches, disk=self._config.caches_on_disk),
            ),
            limits=ServerLimits(
                frame_bytes=self._limits.frame_bytes,
                header_bytes=self._limits.header_bytes,
                batch=self._limits.batch,
                nesting=self._limits.nesting,
                values=self._limits.values,
                members=self._limits.members,
                containers=self._limits.containers,
                requests_bytes=self._config.requests_limit_bytes,
                answers_bytes=self._config.answers_limit_bytes,
                waiting_requests=QueueLimits().waiting,
                journal_bytes=self._config.journal_limit_bytes,
            ),
        )

    def _on_engine_state(self, state: EngineState, because: str | None) -> None:
        # A host that never sent initialize (a line from a shell) hears of the engine only once something went wrong.
        if self._session.initialized or self._engine.restarts or state in ("lost", "failed"):
            self._tell_engine_state(state, because)

    def _tell_first_state(self) -> None:
        if not self._state_told:
            self._tell_engine_state(self._engine.state, self._engine.reason)

    def _tell_engine_state(self, state: EngineState, because: str | None) -> None:
        self._state_told = True
        ready = self._engine.ready
        self._notify(
            "engine/state",
            EngineStateParams(
                state=state,
                pid=ready.pid if ready else None,
                backend=ready.backend if ready else None,
                device=ready.device if ready else None,
                restarts=self._engine.restarts,
                because=because,
            ),
        )

    def _notify(self, method: str, params: Sent) -> None:
        self._mailbox.put(encode_notification(method, params))


def _method(name: str, handler: Callable[..., Any], *, quick: bool) -> Method[Any]:
    params = METHODS[name].params
    assert issubclass(params, Received)
    return Method(name, params, handler, quick, passive=name in _FOR_WHAT_RUNS, heavy=name in _HEAVY)

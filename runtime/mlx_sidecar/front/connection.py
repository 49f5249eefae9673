"""A connection serves one host of a front: its requests and its notifications."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from mlx_sidecar_protocol.envelope import encode_notification
from mlx_sidecar_protocol.generate import GenerateParams
from mlx_sidecar_protocol.lifecycle import negotiate
from mlx_sidecar_protocol.model import Received, Sent
from mlx_sidecar_protocol.notifications import EngineState, EngineStateParams, LogParams
from mlx_sidecar_protocol.operations import (
    CacheTiers,
    InitializeParams,
    InitializeResult,
    ServerCapabilities,
    ServerLimits,
)
from mlx_sidecar_protocol.registry import METHODS

from .api.generate import Generator
from .api.operations import Operations
from .api.sink import Sink
from .api.stats import SERVER, waiting_limit
from .core import Core
from .streams.registry import Streams
from .wire.bounds import Bounds
from .wire.dispatcher import Answer, Method
from .wire.mailbox import Mailbox
from .wire.session import Session
from .wire.transport import Incoming, Outgoing

# A stream that runs on after shutdown may need them to end.
_FOR_WHAT_RUNS = ("stream/ack", "stream/cancel")
_HEAVY = ("tokenize", "detokenize", "render")


class Connection:
    """A session over ``core``, with stream names, windows and notifications of its own.

    Bytes come from ``reader`` and go to the writer that ``open_writer`` makes for a mailbox. ``extra`` methods are
    served beside those of the contract.
    """

    def __init__(
        self,
        core: Core,
        reader: Incoming,
        open_writer: Callable[[Mailbox], Outgoing],
        extra: Iterable[Method[Any]] = (),
    ) -> None:
        self._core = core
        self._state_told = False
        self._mailbox = Mailbox()
        self._streams = Streams(self._mailbox, core.recovery.post)
        config = core.config
        self.session = Session(
            [*self._methods(), *extra],
            self._initialize,
            reader=reader,
            writer=open_writer(self._mailbox),
            mailbox=self._mailbox,
            framing=config.framing,
            limits=core.limits,
            bounds=Bounds(self._mailbox, config.requests_limit_bytes, config.answers_limit_bytes),
            on_end_of_input=self._streams.lift_windows,
        )

    async def run(self) -> int:
        """Serve the host until it leaves or the session is ended; returns the exit status."""
        self._core.on_engine_state.append(self._on_engine_state)
        try:
            return await self.session.run()
        finally:
            self._core.on_engine_state.remove(self._on_engine_state)
            self._core.logs.remove(self._log)

    def _methods(self) -> list[Method[Any]]:
        core = self._core
        operations = Operations(
            catalog=core.catalog,
            engine=core.engine,
            recovery=core.recovery,
            streams=self._streams,
            notify=self._notify,
        )
        tasks: dict[str, Callable[[Sink, Any], Coroutine[Any, Any, Answer]]] = {
            "generate": Generator(core.catalog, self._streams, core.recovery),
            "load": operations.load,
            "unload": operations.unload,
            "models": operations.models,
            "tokenize": operations.tokenize,
            "detokenize": operations.detokenize,
            "render": operations.render,
            "local/list": core.local_models.list,
            "local/delete": core.local_models.delete,
            "stats": core.stats,
            "cache/stats": core.cache.stats,
            "cache/clear": core.cache.clear,
            "cache/warm": core.cache.warm,
            "cache/export": core.cache.export,
            "cache/import": core.cache.import_,
        }
        quick: dict[str, Callable[[Sink, Any], Answer]] = {
            "stream/cancel": operations.stream_cancel,
            "stream/subscribe": operations.stream_subscribe,
            "stream/ack": operations.stream_ack,
            "rpc.discover": operations.discover,
        }
        methods = [_method(name, handler, quick=False) for name, handler in tasks.items()]
        methods += [_method(name, handler, quick=True) for name, handler in quick.items()]
        return methods

    def _initialize(self, params: InitializeParams) -> InitializeResult:
        self._core.logs.add(self._log)
        # The engine's present state follows the answer. Later changes follow by themselves, or have come first.
        self._state_told = False
        asyncio.get_running_loop().call_soon(self._tell_first_state)
        config, ready = self._core.config, self._core.engine.ready
        return InitializeResult(
            protocol_version=negotiate(params.protocol_version),
            server=SERVER,
            instance=self._core.instance,
            backend=ready.backend if ready else None,
            capabilities=ServerCapabilities(
                methods=[name for name, spec in METHODS.items() if spec.direction == "host-to-sidecar"],
                generate_parameters=list(GenerateParams.model_fields),
                autoload=config.autoload,
                cache=CacheTiers(ram=config.caches, disk=config.caches_on_disk),
            ),
            limits=self._limits(),
        )

    def _limits(self) -> ServerLimits:
        limits, config = self._core.limits, self._core.config
        return ServerLimits(
            frame_bytes=limits.frame_bytes,
            header_bytes=limits.header_bytes,
            batch=limits.batch,
            nesting=limits.nesting,
            values=limits.values,
            members=limits.members,
            containers=limits.containers,
            requests_bytes=config.requests_limit_bytes,
            answers_bytes=config.answers_limit_bytes,
            waiting_requests=waiting_limit(self._core.engine.ready),
            journal_bytes=config.journal_limit_bytes,
        )

    def _on_engine_state(self, state: EngineState, because: str | None) -> None:
        # A host that never sent initialize (a line from a shell) hears of the engine only once something went wrong.
        if self.session.initialized or self._core.engine.restarts or state in ("lost", "failed"):
            self._tell_engine_state(state, because)

    def _tell_first_state(self) -> None:
        if not self._state_told:
            self._tell_engine_state(self._core.engine.state, self._core.engine.reason)

    def _tell_engine_state(self, state: EngineState, because: str | None) -> None:
        self._state_told = True
        engine = self._core.engine
        ready = engine.ready
        self._notify(
            "engine/state",
            EngineStateParams(
                state=state,
                pid=ready.pid if ready else None,
                backend=ready.backend if ready else None,
                device=ready.device if ready else None,
                restarts=engine.restarts,
                because=because,
            ),
        )

    def _log(self, line: LogParams) -> None:
        self._notify("log", line)

    def _notify(self, method: str, params: Sent) -> None:
        self._mailbox.put(encode_notification(method, params))


def _method(
    name: str,
    handler: Callable[[Sink, Any], Answer] | Callable[[Sink, Any], Coroutine[Any, Any, Answer]],
    *,
    quick: bool,
) -> Method[Any]:
    params = METHODS[name].params
    assert issubclass(params, Received)
    return Method(name, params, handler, quick, passive=name in _FOR_WHAT_RUNS, heavy=name in _HEAVY)

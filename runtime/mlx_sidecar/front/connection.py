"""A connection serves one host of a front: its requests and its notifications."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from mlx_sidecar_protocol.envelope import encode_notification
from mlx_sidecar_protocol.model import Received, Sent
from mlx_sidecar_protocol.notifications import EngineState, EngineStateParams, LogParams
from mlx_sidecar_protocol.registry import METHODS

from .api.generate import Generator
from .api.operations import Operations
from .api.sink import Sink
from .core import Core
from .opening import Opening
from .streams.registry import Streams
from .wire.dispatcher import Answer, Method

# A stream that runs on after shutdown may need them to end.
_FOR_WHAT_RUNS = ("stream/ack", "stream/cancel")
_HEAVY = ("tokenize", "detokenize", "render")


class Connection:
    """A session over ``core``, with stream names, windows and notifications of its own.

    It takes up the session that ``opening`` began, and serves ``extra`` methods beside those of the contract.
    """

    def __init__(self, core: Core, opening: Opening, extra: Iterable[Method[Any]] = ()) -> None:
        self._core = core
        self._state_told = False
        self._mailbox = opening.mailbox
        self._streams = Streams(self._mailbox, core.recovery.post)
        self.session = opening.session
        opening.ready = lambda: core.engine.ready
        opening.on_initialize = self._on_initialize
        if self.session.initialized:
            self._on_initialize()
        self.session.serve([*self._methods(), *extra], self._streams.lift_windows)

    async def run(self, running: Awaitable[int] | None = None) -> int:
        """Serve the host until it leaves or the session is ended; returns the exit status.

        ``running`` is the run of the session, if it has begun.
        """
        self._core.on_engine_state.append(self._on_engine_state)
        try:
            return await (running or self.session.run())
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
            "generate": Generator(
                core.catalog, self._streams, core.recovery, core.forms, core.sessions, core.adapter_uses
            ),
            "check_draft": operations.check_draft,
            "embed": core.embed,
            "rerank": core.rerank,
            "load": operations.load,
            "unload": operations.unload,
            "models": operations.models,
            "tokenize": operations.tokenize,
            "detokenize": operations.detokenize,
            "render": operations.render,
            "local/list": core.local_models.list,
            "local/delete": core.local_models.delete,
            "stats": core.stats,
            "adapter/load": core.adapters.load,
            "adapter/unload": core.adapters.unload,
            "adapters": core.adapters.adapters,
            "cache/stats": core.cache.stats,
            "cache/clear": core.cache.clear,
            "cache/warm": core.cache.warm,
            "cache/export": core.cache.export,
            "cache/import": core.cache.import_,
            "session/open": core.session_handlers.open,
            "session/export": core.session_handlers.export,
            "session/import": core.session_handlers.import_,
        }
        quick: dict[str, Callable[[Sink, Any], Answer]] = {
            "stream/cancel": operations.stream_cancel,
            "stream/subscribe": operations.stream_subscribe,
            "stream/ack": operations.stream_ack,
            "session/fork": core.session_handlers.fork,
            "session/rollback": core.session_handlers.rollback,
            "session/get": core.session_handlers.get,
            "session/close": core.session_handlers.close,
            "rpc.discover": operations.discover,
        }
        methods = [_method(name, handler, quick=False) for name, handler in tasks.items()]
        methods += [_method(name, handler, quick=True) for name, handler in quick.items()]
        return methods

    def _on_initialize(self) -> None:
        self._core.logs.add(self._log)
        # The engine's present state follows the answer. Later changes follow by themselves, or have come first.
        self._state_told = False
        asyncio.get_running_loop().call_soon(self._tell_first_state)

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

"""The lifecycle methods begin and end a connection: initialize, ping, shutdown, exit and the like."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from mlx_sidecar_protocol.connection import (
    CancelRequestParams,
    EmptyResult,
    InitializeParams,
    InitializeResult,
    NoParams,
    ShutdownParams,
)
from mlx_sidecar_protocol.errors import RpcError
from mlx_sidecar_protocol.lifecycle import Lifecycle

from .context import RequestContext
from .dispatcher import Method
from .in_flight import InFlight


class LifecycleMethods:
    """The state of a connection, and the methods that move it on.

    ``initialize`` makes the result of that request; it may raise an RpcError. ``end`` ends the session with a status.
    """

    def __init__(
        self,
        initialize: Callable[[InitializeParams], InitializeResult],
        in_flight: InFlight,
        end: Callable[[int], None],
    ) -> None:
        self._initialize_result = initialize
        self._in_flight = in_flight
        self._end = end
        self.methods: list[Method[Any]] = [
            Method("initialize", InitializeParams, self._initialize, quick=True),
            Method("initialized", NoParams, self._initialized, quick=True),
            Method("ping", NoParams, _ping, quick=True, passive=True, unordered=True),
            Method("shutdown", ShutdownParams, self._shutdown),
            Method("exit", NoParams, self._exit, quick=True),
            Method("$/cancelRequest", CancelRequestParams, self._cancel, quick=True, passive=True),
        ]
        self._life = Lifecycle(_passive(self.methods))
        self.initialized = False  # the host has initialized: it wants to hear logs
        self.host_process_id: int | None = None  # as initialize said

    def add(self, others: Iterable[Method[Any]]) -> None:
        """The connection has these methods too."""
        self._life.passive |= _passive(others)

    def admit(self, name: str) -> RpcError | None:
        """Why method ``name`` cannot be called now."""
        return self._life.admit(name)

    def _initialize(self, context: RequestContext, params: InitializeParams) -> InitializeResult:
        result = self._initialize_result(params)
        self._life.advance("initialize")
        self.initialized = True
        self.host_process_id = params.process_id
        return result

    def _initialized(self, context: RequestContext, params: NoParams) -> EmptyResult:
        self._life.advance("initialized")
        return EmptyResult()

    def _shutdown(self, context: RequestContext, params: ShutdownParams) -> Coroutine[Any, Any, EmptyResult]:
        self._life.advance("shutdown")  # at once: messages behind it must find it done
        context.on_cancel(_nothing)  # it has succeeded; cancelling all the others, as exit does, only brings its answer
        if params.cancel:
            self._in_flight.cancel_all()
        return self._answer_when_alone(context)

    async def _answer_when_alone(self, context: RequestContext) -> EmptyResult:
        await self._in_flight.wait_ended(but=context)
        return EmptyResult()

    def _exit(self, context: RequestContext, params: NoParams) -> EmptyResult:
        self._life.advance("exit")
        self._end(self._life.exit_code)
        return EmptyResult()

    def _cancel(self, context: RequestContext, params: CancelRequestParams) -> EmptyResult:
        self._in_flight.cancel(params.id)
        return EmptyResult()


def _passive(methods: Iterable[Method[Any]]) -> frozenset[str]:
    return frozenset(method.name for method in methods if method.passive)


def _ping(_: RequestContext, __: NoParams) -> bytes:
    return b"{}"


def _nothing() -> None:
    pass

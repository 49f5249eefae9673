"""The dispatcher finds the method of a request, calls it and maps its outcome, with jsonrpcserver.

Envelope, batches and serialising are ours (``mlx_sidecar_protocol.envelope``); each method is one function that
validates with pydantic and keeps unexpected exceptions to itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, cast

from mlx_sidecar_protocol.envelope import Params, Result
from mlx_sidecar_protocol.errors import InternalError, MethodNotFound, RpcError
from mlx_sidecar_protocol.model import Received

from ...bare_import import bare_package
from ...containment import CONTROL_FLOW, LEAVING
from .context import RequestContext

# Their own __init__ would import jsonschema, and all monads there are.
bare_package("jsonrpcserver")
bare_package("oslash")

from jsonrpcserver.dispatcher import call, get_method  # noqa: E402
from jsonrpcserver.request import Request as LibraryRequest  # noqa: E402
from jsonrpcserver.result import Success  # noqa: E402
from oslash.either import Left  # noqa: E402

__all__ = ["Answer", "Dispatcher", "Method", "Outcome", "Pending", "RequestContext", "error_of"]

log = logging.getLogger(__name__)

P = TypeVar("P", bound="Received | Params", contravariant=True)

# A result that is made when it is written, after the last delta before it.
Answer = Result | Callable[[], Result]
Outcome = Answer | RpcError


@dataclass(frozen=True)
class Method(Generic[P]):
    """One method of the wire.

    ``params`` is the model that validates; None hands the parameters over as they came: object, array or None.
    A ``quick`` handler is a function that never waits. Any other is a coroutine function: its coroutine runs as a
    task of its own and can be cancelled. Both are called in the order of the requests; so a plain function that
    returns a coroutine does in its turn the work that must not be overtaken. A ``passive`` method neither begins a
    connection nor is refused while it ends. ``heavy`` methods take much memory and may have long answers, so few of
    their requests run at once. An ``unordered`` method neither changes anything nor depends on what came before, so its
    calls may overtake messages that wait.
    """

    name: str
    params: type[Received] | None
    handler: Callable[[RequestContext, P], Answer] | Callable[[RequestContext, P], Coroutine[Any, Any, Answer]]
    quick: bool = False
    passive: bool = False
    heavy: bool = False
    unordered: bool = False


class Dispatcher:
    """Knows the methods, but holds no state of a connection."""

    def __init__(self, methods: Iterable[Method[Any]]) -> None:
        self.methods: dict[str, Method[Any]] = {}
        for method in methods:
            if method.name in self.methods:
                raise ValueError(f"{method.name} is registered twice")
            self.methods[method.name] = method
        self._calls = {name: _call(method) for name, method in self.methods.items()}

    def call(self, context: RequestContext, name: str, params: Params) -> Outcome | Pending:
        """The outcome of a quick method, or of a call that cannot be made; else the call still to be run."""
        found: Any = get_method(self._calls, name)
        if isinstance(found, Left):
            return MethodNotFound()
        # To the library our parameters are one argument: pydantic judges them, and says more than a TypeError could.
        result: Any = call(LibraryRequest(name, [params], context.id), context, found._value)
        return cast("Outcome | Pending", result._value.result)


class Pending:
    """A call with valid parameters that has not begun; it must be either ``run`` or closed."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Answer]) -> None:
        self._coroutine = coroutine

    async def run(self) -> Outcome:
        """The outcome. Raises nothing but cancellation."""
        try:
            return await self._coroutine
        except CONTROL_FLOW:
            raise
        except BaseException as error:  # noqa: BLE001 - logged and answered
            return error_of(error)

    def close(self) -> None:
        """It will not be run."""
        self._coroutine.close()


def error_of(error: BaseException) -> RpcError:
    """The wire error for any exception, made only here. An unexpected exception stays in the log."""
    if isinstance(error, RpcError):
        return error
    log.error("a handler failed", exc_info=error)
    return InternalError()


def _call(method: Method[Any]) -> Callable[[RequestContext, Params], Any]:
    """The function that the library calls for ``method``: it validates, and raises nothing."""
    handler: Callable[[RequestContext, Any], Any] = method.handler
    validated = _validator(method.params)

    def validated_call(context: RequestContext, params: Params) -> Any:
        try:
            value = handler(context, validated(params))
        except LEAVING:
            raise
        except BaseException as error:  # noqa: BLE001 - logged and answered
            return Success(error_of(error))
        return Success(value if method.quick else Pending(value))

    return validated_call


def _validator(model: type[Received] | None) -> Callable[[Params], Any]:
    """The function that makes the handler's parameters of a call's; it raises InvalidParams."""
    if model is None:
        return lambda params: params or None
    without = cache(lambda: model.parse({}))  # models are frozen
    return lambda params: model.parse(params) if params else without()

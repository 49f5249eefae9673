"""From a request to its outcome, on jsonrpcserver: it finds the method, calls it and maps what comes back.

Envelope, batches and serialising are ours (``mlx_sidecar_protocol.envelope``); each method is one wrapper that
validates with pydantic and lets nothing of an unexpected exception through.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from mlx_sidecar_protocol.envelope import Params, Result
from mlx_sidecar_protocol.errors import InternalError, InvalidParams, MethodNotFound, RpcError
from mlx_sidecar_protocol.model import Received

from ...bare_import import bare_package
from ...containment import CONTROL_FLOW, LEAVING
from .context import RequestContext

# Their own __init__ would import jsonschema, and all monads there are.
bare_package("jsonrpcserver")
bare_package("oslash")

from jsonrpcserver.dispatcher import dispatch_request  # noqa: E402
from jsonrpcserver.request import Request as LibraryRequest  # noqa: E402
from jsonrpcserver.result import Error, ErrorResult, Success  # noqa: E402
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
    A ``quick`` handler is a function that never waits. Any other is a coroutine function, whose coroutine runs as a
    task of its own and can be cancelled. Both are called in the order of the requests; so a plain function that
    returns a coroutine does in its turn what must not be overtaken. A ``passive`` method neither begins a connection
    nor is refused while it ends. Of ``heavy`` ones, which take much memory and may have long answers, few run at once.
    """

    name: str
    params: type[Received] | None
    handler: Callable[[RequestContext, P], Answer] | Callable[[RequestContext, P], Coroutine[Any, Any, Answer]]
    quick: bool = False
    passive: bool = False
    heavy: bool = False


class Dispatcher:
    """Knows the methods; holds no state of a connection."""

    def __init__(self, methods: Iterable[Method[Any]]) -> None:
        self.methods: dict[str, Method[Any]] = {}
        for method in methods:
            if method.name in self.methods:
                raise ValueError(f"{method.name} is registered twice")
            self.methods[method.name] = method
        self._calls: dict[str, Callable[..., Any]] = {name: _Call(method) for name, method in self.methods.items()}

    def call(self, context: RequestContext, name: str, params: Params) -> Outcome | Pending:
        """The outcome of a quick method, or of a call that cannot be made; else what is still to be run."""
        result: Any
        _, result = dispatch_request(self._calls, context, LibraryRequest(name, params or [], context.id))
        if not isinstance(result, Left):
            return cast("Outcome | Pending", result._value.result)
        error: ErrorResult = result._error
        # An error of ours travels in ``data``; the library makes only one itself, for a name that it does not find.
        if isinstance(error.data, RpcError):
            return error.data
        return MethodNotFound() if error.code == MethodNotFound.code else InternalError()


class Pending:
    """A call with valid parameters that has not begun. To be either ``run`` or closed."""

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
    """The one place where exceptions become wire errors. What we did not expect stays in the log."""
    if isinstance(error, RpcError):
        return error
    log.error("a handler failed", exc_info=error)
    return InternalError()


class _AnyArguments(inspect.Signature):
    """A signature that everything fits: pydantic judges the parameters, and says more than a TypeError could."""

    def bind(self, /, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        return _NO_ARGUMENTS


_ANY_ARGUMENTS = _AnyArguments()
_NO_ARGUMENTS = inspect.BoundArguments(_ANY_ARGUMENTS, {})


class _Call:
    """What jsonrpcserver calls for a method: ``call(context, *by_position, **by_name)``."""

    def __init__(self, method: Method[Any]) -> None:
        self.__signature__ = _ANY_ARGUMENTS
        self._handler: Callable[[RequestContext, Any], Any] = method.handler
        self._quick = method.quick
        self._model = method.params
        self._fields = tuple(method.params.model_fields) if method.params is not None else ()
        self._without: Received | None = None  # the parameters of a call that has none; models are frozen

    def __call__(self, context: RequestContext, /, *args: Any, **kwargs: Any) -> Any:
        try:
            value = self._handler(context, self._validate(args, kwargs))
        except LEAVING:
            raise
        except BaseException as error:  # noqa: BLE001 - logged and answered
            rpc_error = error_of(error)
            return Error(rpc_error.code, rpc_error.message, rpc_error)
        return Success(value if self._quick else Pending(value))

    def _validate(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The validated parameters. Raises InvalidParams."""
        model = self._model
        if model is None:
            return list(args) if args else dict(kwargs) if kwargs else None
        if args:
            return model.parse(self._by_name(args))
        if kwargs:
            return model.parse(kwargs)
        if self._without is None:
            self._without = model.parse({})
        return self._without

    def _by_name(self, args: tuple[Any, ...]) -> dict[str, Any]:
        if len(args) > len(self._fields):
            message = f"{len(args)} parameters by position, at most {len(self._fields)} are known"
            raise InvalidParams([{"loc": [], "msg": message, "type": "too_many_positions"}])
        return dict(zip(self._fields, args, strict=False))

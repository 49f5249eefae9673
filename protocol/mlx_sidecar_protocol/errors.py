"""Every error that the sidecar answers is an exception of its own class.

A handler says ``raise ModelNotLoaded("pocket")``; one place turns it into a wire error. ``code`` and ``kind`` are
stable. ``data`` holds ``kind``, ``retryable``, and the details with which a program can react.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

NO_DATA = object()


class RpcError(Exception):
    """An error that a host sees. Subclasses fix ``code``, ``kind`` and ``retryable``; ``details`` go into ``data``."""

    code: ClassVar[int]
    kind: ClassVar[str]
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @classmethod
    def as_told(cls, message: str, details: Mapping[str, Any]) -> Self:
        """The error that another process raised, in its words. They hold all that a constructor was given of use."""
        error = cls.__new__(cls)
        RpcError.__init__(error, message, **details)
        return error

    @property
    def data(self) -> Any:
        """The error's ``data`` member; ``NO_DATA`` leaves it out."""
        return {"kind": self.kind, "retryable": self.retryable, **self.details}


class ParseError(RpcError):
    code, kind = -32700, "parse_error"

    def __init__(self, because: str) -> None:
        super().__init__("the message is not JSON", because=because)


class NestingTooDeep(RpcError):
    code, kind = -32700, "nesting_too_deep"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"arrays and objects are nested deeper than {limit}", limit=limit)


class InvalidRequest(RpcError):
    code, kind = -32600, "invalid_request"


class FrameTooLarge(InvalidRequest):
    kind = "frame_too_large"

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(f"the message is longer than {limit_bytes} bytes", limit_bytes=limit_bytes)


class BatchTooLong(InvalidRequest):
    kind = "batch_too_long"

    def __init__(self, *, have: int, limit: int) -> None:
        super().__init__(f"the batch has {have} elements, the limit is {limit}", have=have, limit=limit)


class TooManyValues(InvalidRequest):
    """One message has too many values, members or containers, named by ``what``."""

    kind = "too_many_values"

    def __init__(self, *, what: str, limit: int) -> None:
        super().__init__(f"the message has more than {limit} {what}", what=what, limit=limit)


class MethodNotFound(RpcError):
    code, kind = -32601, "method_not_found"

    def __init__(self) -> None:
        super().__init__("no such method")


class InvalidParams(RpcError):
    """Parameters do not fit; ``errors`` is a list of {loc, msg, type}, one for each field at fault."""

    code, kind = -32602, "invalid_params"

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        first = errors[0] if errors else {"loc": [], "msg": "invalid"}
        where = ".".join(str(part) for part in first["loc"])
        super().__init__(f"{where}: {first['msg']}" if where else str(first["msg"]), errors=errors)

    @classmethod
    def field(cls, name: str, message: str, type_: str = "value_error") -> InvalidParams:
        """The error for one field at fault."""
        return cls([{"loc": [name], "msg": message, "type": type_}])


class InternalError(RpcError):
    """A bug of the sidecar; its exception is logged and not sent."""

    code, kind = -32603, "internal_error"

    def __init__(self) -> None:
        super().__init__("internal error")


class ModelNotFound(RpcError):
    code, kind = -32001, "model_not_found"

    def __init__(self, model: str, because: str = "") -> None:
        super().__init__(f"no model {model!r}" + (f": {because}" if because else ""), model=model)


class ModelLoadFailed(RpcError):
    code, kind = -32001, "model_load_failed"

    def __init__(self, model: str, because: str) -> None:
        super().__init__(f"{model!r} could not be loaded: {because}", model=model, because=because)


class ModelUnsupported(RpcError):
    code, kind = -32001, "model_unsupported"

    def __init__(self, model: str, because: str) -> None:
        super().__init__(f"{model!r} is not supported: {because}", model=model, because=because)


class AdapterLoadFailed(RpcError):
    code, kind = -32001, "adapter_load_failed"

    def __init__(self, adapter: str, because: str) -> None:
        super().__init__(f"adapter {adapter!r} could not be loaded: {because}", adapter=adapter, because=because)


class AdapterUnsupported(RpcError):
    """The adapter is of a kind that a single request cannot use."""

    code, kind = -32001, "adapter_unsupported"

    def __init__(self, adapter: str, because: str) -> None:
        super().__init__(f"adapter {adapter!r} is not supported: {because}", adapter=adapter, because=because)


class NotInitialized(RpcError):
    code, kind = -32002, "not_initialized"


class ShuttingDown(RpcError):
    code, kind = -32002, "shutting_down"

    def __init__(self) -> None:
        super().__init__("the sidecar is shutting down")


class ModelNotLoaded(RpcError):
    code, kind = -32003, "model_not_loaded"

    def __init__(self, model: str) -> None:
        super().__init__(f"{model!r} is not loaded; call load first", model=model)


class ModelInUse(RpcError):
    code, kind, retryable = -32003, "model_in_use", True

    def __init__(self, model: str, streams: int) -> None:
        super().__init__(f"{model!r} has {streams} running streams", model=model, streams=streams)


class ContextTooLong(RpcError):
    code, kind = -32004, "context_too_long"

    def __init__(self, *, have: int, limit: int, field: str | None = None) -> None:
        """``field`` names the text where a request has several."""
        named = {} if field is None else {"field": field}
        text = field or "the prompt"
        super().__init__(f"{text} has {have} tokens, the limit is {limit}", have=have, limit=limit, **named)


class UnsupportedParameter(RpcError):
    """A parameter of the contract that this model, backend or version cannot honour."""

    code, kind = -32004, "unsupported_parameter"

    def __init__(self, name: str, because: str) -> None:
        super().__init__(f"{name} cannot be honoured: {because}", name=name, because=because)


class ConstraintUnsatisfiable(RpcError):
    """No token is left that the answer's form and bias allow; ``position`` counts those before it."""

    code, kind = -32004, "constraint_unsatisfiable"

    def __init__(self, position: int) -> None:
        super().__init__(f"after {position} tokens no token is left that the answer may have", position=position)


class Overloaded(RpcError):
    code, kind, retryable = -32005, "overloaded", True

    def __init__(self, *, queue: int, limit: int, retry_after_s: float) -> None:
        super().__init__(
            f"{queue} requests are waiting, the limit is {limit}",
            queue=queue,
            limit=limit,
            retry_after_s=retry_after_s,
        )

    @classmethod
    def in_bytes(cls, what: str, *, have_bytes: int, limit_bytes: int, retry_after_s: float) -> Overloaded:
        """The error for a limit in bytes, of which ``what`` already has ``have_bytes``."""
        error = cls(queue=have_bytes, limit=limit_bytes, retry_after_s=retry_after_s)
        error.message = f"there are {have_bytes} bytes of {what}, the limit is {limit_bytes}"
        error.details["unit"] = "bytes"
        return error

    @classmethod
    def with_sessions(cls, *, have: int, limit: int, retry_after_s: float) -> Overloaded:
        """The error for the limit of open sessions."""
        error = cls(queue=have, limit=limit, retry_after_s=retry_after_s)
        error.message = f"there are {have} sessions, the limit is {limit}"
        error.details["unit"] = "sessions"
        return error


class OutOfMemory(RpcError):
    code, kind, retryable = -32005, "out_of_memory", True

    def __init__(self, *, need_bytes: int, have_bytes: int) -> None:
        super().__init__(
            f"{need_bytes} bytes are needed, {have_bytes} are free", need_bytes=need_bytes, have_bytes=have_bytes
        )


class DeadlinePassed(RpcError):
    """A deadline passed before the request had a result; a started generation answers a partial result instead."""

    code, kind, retryable = -32005, "deadline_passed", True

    def __init__(self) -> None:
        super().__init__("it was not done by its deadline")


class EngineLost(RpcError):
    code, kind, retryable = -32006, "engine_lost", True

    def __init__(self, because: str) -> None:
        super().__init__(f"the engine process was lost: {because}", because=because)


class EngineStalled(RpcError):
    code, kind, retryable = -32006, "engine_stalled", True

    def __init__(self, because: str) -> None:
        super().__init__(f"the engine stalled: {because}", because=because)


class PoisonRequest(RpcError):
    """Engines were lost while the device worked on this request, without a token of it in between."""

    code, kind = -32006, "poison_request"

    def __init__(self, because: str) -> None:
        super().__init__(f"one engine after the other was lost with this request: {because}", because=because)


class NonFiniteLogits(RpcError):
    """The model computed logits with NaN or infinity for this text. The usual cause is half precision."""

    code, kind = -32006, "non_finite_logits"

    def __init__(self, model: str, position: int) -> None:
        super().__init__(
            f"the logits of {model!r} after {position} tokens are not finite, so that nothing can be chosen by them",
            model=model,
            position=position,
        )


class NonFiniteEmbedding(RpcError):
    """The model computed NaN or infinity for this text. The usual cause is half precision."""

    code, kind = -32006, "non_finite_embedding"

    def __init__(self, model: str) -> None:
        super().__init__(f"{model!r} computes numbers for this text that are not finite", model=model)


class UnknownStream(RpcError):
    code, kind = -32007, "unknown_stream"

    def __init__(self, stream: str | int) -> None:
        super().__init__(f"no stream {stream!r}", stream=stream)


class UnknownSession(RpcError):
    """There is no such session: it was never opened, or it was closed, or nothing used it for its ``ttl_s``."""

    code, kind = -32007, "unknown_session"

    def __init__(self, session: str) -> None:
        super().__init__(f"no session {session!r}", session=session)


class UnknownAdapter(RpcError):
    """The model has no adapter of this name: it was never loaded, or it was unloaded."""

    code, kind = -32007, "unknown_adapter"

    def __init__(self, adapter: str, model: str) -> None:
        super().__init__(f"adapter: {model!r} has none of the name {adapter!r}", adapter=adapter, model=model)


class DuplicateStream(RpcError):
    code, kind = -32007, "duplicate_stream"

    def __init__(self, stream: str | int) -> None:
        super().__init__(f"stream {stream!r} is already open", stream=stream)


class DuplicateId(RpcError):
    code, kind = -32007, "duplicate_id"

    def __init__(self) -> None:
        super().__init__("a request with this id is still running")


class Cancelled(RpcError):
    """A request was cancelled before it had a result; a started generation answers a partial result instead."""

    code, kind = -32800, "cancelled"

    def __init__(self) -> None:
        super().__init__("cancelled")

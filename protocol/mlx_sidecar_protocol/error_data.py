"""The members of ``data`` for each kind of error, besides ``kind`` and ``retryable``."""

from __future__ import annotations

from typing import Literal

from . import errors
from .errors import RpcError
from .model import Count, Seconds, Sent, StreamId


class NoDetails(Sent):
    pass


class Reason(Sent):
    because: str


class NestingLimit(Sent):
    limit: Count


class FrameLimit(Sent):
    limit_bytes: Count


class HaveAndLimit(Sent):
    have: Count
    limit: Count


class TooManyTokens(HaveAndLimit):
    """``field`` names the text, such as input.3, where a request has several."""

    field: str | None = None


class FieldError(Sent):
    """One field at fault. ``loc`` is its path of names and list indices."""

    loc: list[str | int]
    msg: str
    type: str


class FieldErrors(Sent):
    errors: list[FieldError]


class AboutModel(Sent):
    model: str


class ModelFault(Sent):
    model: str
    because: str


class AdapterFault(Sent):
    adapter: str
    because: str


class AboutAdapter(Sent):
    adapter: str
    model: str


class ModelBusy(Sent):
    model: str
    streams: Count


class ParameterFault(Sent):
    name: str
    because: str


class Excess(Sent):
    what: Literal["values", "members", "containers"]
    limit: Count


class QueueFull(Sent):
    """The length of a full queue and its limit, in requests, or in bytes or sessions if ``unit`` says so."""

    queue: Count
    limit: Count
    unit: Literal["bytes", "sessions"] | None = None
    retry_after_s: Seconds


class MemoryShort(Sent):
    need_bytes: Count
    have_bytes: Count


class LogitsFault(AboutModel):
    """``position`` is the number of tokens, of prompt and answer, before the logits that are not finite."""

    position: Count


class DeadEnd(Sent):
    """``position`` is the number of tokens, of prompt and answer, behind which none is left."""

    position: Count


class EngineFault(Sent):
    because: str | None = None


class AboutStream(Sent):
    stream: StreamId


class AboutSession(Sent):
    session: str


DETAILS: dict[type[RpcError], type[Sent]] = {
    errors.ParseError: Reason,
    errors.NestingTooDeep: NestingLimit,
    errors.InvalidRequest: NoDetails,
    errors.FrameTooLarge: FrameLimit,
    errors.BatchTooLong: HaveAndLimit,
    errors.TooManyValues: Excess,
    errors.MethodNotFound: NoDetails,
    errors.InvalidParams: FieldErrors,
    errors.InternalError: NoDetails,
    errors.ModelNotFound: AboutModel,
    errors.ModelLoadFailed: ModelFault,
    errors.ModelUnsupported: ModelFault,
    errors.AdapterLoadFailed: AdapterFault,
    errors.AdapterUnsupported: AdapterFault,
    errors.NotInitialized: NoDetails,
    errors.ShuttingDown: NoDetails,
    errors.ModelNotLoaded: AboutModel,
    errors.ModelInUse: ModelBusy,
    errors.ContextTooLong: TooManyTokens,
    errors.UnsupportedParameter: ParameterFault,
    errors.ConstraintUnsatisfiable: DeadEnd,
    errors.Overloaded: QueueFull,
    errors.OutOfMemory: MemoryShort,
    errors.DeadlinePassed: NoDetails,
    errors.EngineLost: EngineFault,
    errors.EngineStalled: EngineFault,
    errors.PoisonRequest: EngineFault,
    errors.NonFiniteLogits: LogitsFault,
    errors.NonFiniteEmbedding: AboutModel,
    errors.UnknownStream: AboutStream,
    errors.UnknownSession: AboutSession,
    errors.UnknownAdapter: AboutAdapter,
    errors.DuplicateStream: AboutStream,
    errors.DuplicateId: NoDetails,
    errors.Cancelled: NoDetails,
}
"""Every error a host can see, in the order of the documentation."""

"""The table of methods, from which dispatcher, schemas, OpenRPC document and documentation are made or checked."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from . import adapters as a
from . import cache as c
from . import embed as em
from . import errors as e
from . import generate as g
from . import generate_result as r
from . import local
from . import notifications as n
from . import operations as o
from . import sessions as ss
from . import stats as s
from .errors import RpcError
from .model import Received, Sent

Direction = Literal["host-to-sidecar", "sidecar-to-host"]
Kind = Literal["request", "notification"]


@dataclass(frozen=True)
class MethodSpec:
    """One method. ``params`` is ``Received`` if the host sends it, else ``Sent``; only requests have a result."""

    name: str
    direction: Direction
    kind: Kind
    params: type[Received] | type[Sent]
    result: type[Sent] | None
    errors: tuple[type[RpcError], ...]
    summary: str
    since: str = "1"


ANY_REQUEST = (e.InvalidParams, e.InternalError)
"""Errors that any request may be answered with."""

_AT_THE_DOOR = (*ANY_REQUEST, e.ShuttingDown)
_TASK = (*_AT_THE_DOOR, e.DuplicateId, e.Overloaded, e.Cancelled)
_WORK = (*_TASK, e.EngineLost, e.EngineStalled)
_LOADING = (e.ModelNotFound, e.ModelLoadFailed, e.ModelUnsupported, e.OutOfMemory)
_ON_A_MODEL = (*_WORK, *_LOADING, e.ModelNotLoaded)
_OF_VECTORS = (
    *_ON_A_MODEL,
    e.ContextTooLong,
    e.UnsupportedParameter,
    e.DeadlinePassed,
    e.PoisonRequest,
    e.NonFiniteEmbedding,
)
_OF_SESSION = (*_TASK, e.UnknownSession)


def _request(
    name: str, params: type[Received], result: type[Sent], errors: tuple[type[RpcError], ...], summary: str
) -> MethodSpec:
    return MethodSpec(name, "host-to-sidecar", "request", params, result, errors, summary)


def _told(name: str, params: type[Received], summary: str) -> MethodSpec:
    return MethodSpec(name, "host-to-sidecar", "notification", params, None, (), summary)


def _tells(name: str, params: type[Sent], summary: str) -> MethodSpec:
    return MethodSpec(name, "sidecar-to-host", "notification", params, None, (), summary)


_TABLE = (
    _request(
        "initialize",
        o.InitializeParams,
        o.InitializeResult,
        (*_AT_THE_DOOR, e.InvalidRequest),
        "Agree on a version; optional, and then the first request and the only one of its kind.",
    ),
    _told("initialized", o.NoParams, "The host has read the answer to initialize."),
    _request("ping", o.NoParams, o.EmptyResult, ANY_REQUEST, "Answer at once."),
    _request(
        "shutdown",
        o.ShutdownParams,
        o.EmptyResult,
        (*_AT_THE_DOOR, e.DuplicateId, e.Overloaded),
        "Take no new work, and answer when running requests have ended.",
    ),
    _told("exit", o.NoParams, "End the process: status 0 after shutdown, else 1."),
    _told("$/cancelRequest", o.CancelRequestParams, "Cancel a request by its id."),
    _request(
        "load",
        o.LoadParams,
        o.LoadResult,
        (*_WORK, *_LOADING, e.UnsupportedParameter),
        "Make a model resident, and answer its card.",
    ),
    _request(
        "unload",
        o.UnloadParams,
        o.UnloadResult,
        (*_WORK, e.ModelNotLoaded, e.ModelInUse),
        "Drop a model and free its memory.",
    ),
    _request("models", o.NoParams, o.ModelsResult, _WORK, "The models that are resident or on their way."),
    _request(
        "adapter/load",
        a.AdapterLoadParams,
        a.AdapterLoadResult,
        (*_ON_A_MODEL, e.AdapterLoadFailed, e.AdapterUnsupported, e.UnsupportedParameter),
        "Let requests to a model name an adapter, and answer its card.",
    ),
    _request(
        "adapter/unload",
        a.AdapterUnloadParams,
        a.AdapterUnloadResult,
        (*_WORK, e.ModelNotLoaded, e.UnknownAdapter),
        "Take no new request with an adapter, and answer when the last one has ended.",
    ),
    _request(
        "adapters",
        a.AdaptersParams,
        a.AdaptersResult,
        (*_WORK, e.ModelNotLoaded),
        "The adapters that requests may name.",
    ),
    _request(
        "generate",
        g.GenerateParams,
        r.GenerateResult,
        (
            *_ON_A_MODEL,
            e.ContextTooLong,
            e.UnsupportedParameter,
            e.ConstraintUnsatisfiable,
            e.PoisonRequest,
            e.NonFiniteLogits,
            e.UnknownSession,
            e.UnknownAdapter,
            e.AdapterLoadFailed,
            e.DuplicateStream,
        ),
        "Continue a prompt, a chat or tokens; streamed if the host names a stream.",
    ),
    _request(
        "tokenize", o.TokenizeParams, o.TokenizeResult, (*_ON_A_MODEL, e.UnsupportedParameter), "Text to token ids."
    ),
    _request("detokenize", o.DetokenizeParams, o.DetokenizeResult, _ON_A_MODEL, "Token ids to text."),
    _request(
        "render",
        o.RenderParams,
        o.RenderResult,
        (*_ON_A_MODEL, e.UnsupportedParameter),
        "The text and tokens of a chat under the model's template.",
    ),
    _request(
        "check_draft",
        o.CheckDraftParams,
        o.CheckDraftResult,
        _ON_A_MODEL,
        "Whether one model can make proposals for another.",
    ),
    _request("embed", em.EmbedParams, em.EmbedResult, _OF_VECTORS, "A vector for each text."),
    _request("rerank", em.RerankParams, em.RerankResult, _OF_VECTORS, "A score for each document, by a query."),
    _request(
        "stream/cancel",
        o.StreamCancelParams,
        o.EmptyResult,
        (*ANY_REQUEST, e.UnknownStream),
        "Cancel a stream; idempotent.",
    ),
    _request(
        "stream/subscribe",
        o.StreamSubscribeParams,
        o.StreamSubscribeResult,
        (*_AT_THE_DOOR, e.Overloaded, e.UnknownStream),
        "Send one delta with all missed text, then the live ones.",
    ),
    _request(
        "stream/ack",
        o.StreamAckParams,
        o.EmptyResult,
        (*ANY_REQUEST, e.UnknownStream, e.UnsupportedParameter),
        "Acknowledge deltas of a stream with a window.",
    ),
    _request(
        "cache/stats",
        o.NoParams,
        c.CacheStatsResult,
        _WORK,
        "Contents and counters of the prefix cache.",
    ),
    _request(
        "cache/clear",
        c.CacheClearParams,
        c.CacheClearResult,
        (*_WORK, e.ModelNotLoaded, e.UnsupportedParameter),
        "Forget cached prompts of one model or of all, pinned ones included.",
    ),
    _request(
        "cache/warm",
        c.CacheWarmParams,
        c.CacheWarmResult,
        (
            *_ON_A_MODEL,
            e.ContextTooLong,
            e.UnsupportedParameter,
            e.DeadlinePassed,
            e.PoisonRequest,
            e.NonFiniteLogits,
        ),
        "Compute a prefix, and pin it in the cache.",
    ),
    _request(
        "cache/export",
        c.CacheExportParams,
        c.CacheFileResult,
        (*_ON_A_MODEL, e.UnsupportedParameter),
        "Write the cached part of a conversation to a file.",
    ),
    _request(
        "cache/import",
        c.CacheImportParams,
        c.CacheFileResult,
        (*_ON_A_MODEL, e.UnsupportedParameter),
        "Read a file of cache/export into the cache.",
    ),
    _request(
        "session/open",
        ss.SessionOpenParams,
        ss.SessionResult,
        _ON_A_MODEL,
        "Open a chat that is continued by its handle.",
    ),
    _request(
        "session/fork",
        ss.SessionForkParams,
        ss.SessionResult,
        _OF_SESSION,
        "Another session that goes on from a turn of this one.",
    ),
    _request(
        "session/rollback",
        ss.SessionRollbackParams,
        ss.SessionRollbackResult,
        _OF_SESSION,
        "Remove all turns behind one.",
    ),
    _request("session/get", ss.OfSession, ss.SessionGetResult, _OF_SESSION, "The turns of a session."),
    _request("session/close", ss.OfSession, o.EmptyResult, _OF_SESSION, "Forget a session."),
    _request(
        "session/export",
        ss.SessionExportParams,
        ss.SessionFileResult,
        (*_ON_A_MODEL, e.UnknownSession),
        "Write a session to a file.",
    ),
    _request(
        "session/import",
        ss.SessionImportParams,
        ss.SessionFileResult,
        _ON_A_MODEL,
        "Open the session that is in a file.",
    ),
    _request(
        "local/list",
        local.LocalListParams,
        local.LocalListResult,
        (*_TASK, e.ModelNotFound),
        "The models on this machine, with what their files tell.",
    ),
    _request(
        "local/delete",
        local.LocalDeleteParams,
        local.LocalDeleteResult,
        (*_WORK, e.ModelNotFound, e.ModelInUse, e.UnsupportedParameter),
        "Delete a model of the hub's cache or of mlx-sidecar's own folder.",
    ),
    _request("stats", o.NoParams, s.StatsResult, _TASK, "Counters, latencies, health, memory."),
    _request(
        "rpc.discover",
        o.NoParams,
        o.DiscoverResult,
        (*_AT_THE_DOOR, e.Overloaded),
        "This table as an OpenRPC document.",
    ),
    _tells("stream/delta", n.StreamDelta, "New text of a stream."),
    _tells("stream/interrupted", n.StreamInterrupted, "A stream lost its engine and will go on."),
    _tells("progress", n.ProgressParams, "The progress of a load."),
    _tells("log", n.LogParams, "A line for the host's log."),
    _tells("engine/state", n.EngineStateParams, "The engine process changed its state."),
)

METHODS = MappingProxyType({spec.name: spec for spec in _TABLE})
"""Name to specification, in the order of the documentation."""


def requests() -> tuple[MethodSpec, ...]:
    """The requests of the host."""
    return tuple(spec for spec in _TABLE if spec.kind == "request")


def host_notifications() -> tuple[MethodSpec, ...]:
    """The notifications of the host."""
    return tuple(spec for spec in _TABLE if spec.kind == "notification" and spec.direction == "host-to-sidecar")


def own_notifications() -> tuple[MethodSpec, ...]:
    """The notifications of the sidecar."""
    return tuple(spec for spec in _TABLE if spec.direction == "sidecar-to-host")


def build_models() -> None:
    """Build every validator now; otherwise the first request that needs one pays for it."""
    for spec in _TABLE:
        spec.params.model_rebuild()
        if spec.result is not None:
            spec.result.model_rebuild()

"""The host's messages so far, and the errors and endings that they can explain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .expected import METHODS, Asked, Message, Told

PARKED = "fake?tokens=100000&context=200000&delay_ms=5"  # with a window of 1: minutes beyond its first delta
_ENDS_ENGINES = ("crash", "poison", "hang", "raise")  # or the step that all sequences share
_FAILS = ("fail_after", "raise")
# Errors that a request may get before its parameters are looked at.
_AT_THE_DOOR = {"shutting_down", "duplicate_id", "cancelled"}

StreamKey = tuple[type, Any]


def stream_key(name: Any) -> StreamKey:
    """Return the key of a stream's name: 1 and "1" are two names, 1 and 1.0 are one."""
    name = int(name) if isinstance(name, float) else name
    return type(name), name


@dataclass
class Facts:
    """Facts of one connection. ``tight``: memory for few models. Places count all messages of the host."""

    tight: bool = False
    place: int = 0
    shutdowns: list[Asked] = field(default_factory=list)
    cancelled_all: bool = False
    input_ended: bool = False
    troubled: bool = False  # the engine was asked to end, which any request may feel
    initialize_asked: int = 0
    unloaded: bool = False
    ids_cancelled: list[tuple[int, Any]] = field(default_factory=list)
    streams_cancelled: dict[StreamKey, int] = field(default_factory=dict)  # the place of the last cancel
    streams_asked: defaultdict[StreamKey, list[Asked]] = field(default_factory=lambda: defaultdict(list))
    of_streams: defaultdict[StreamKey, list[Message]] = field(default_factory=lambda: defaultdict(list))
    mute: set[StreamKey] = field(default_factory=set)  # streams of notifications: no answer ends them
    ids_open: list[Asked] = field(default_factory=list)
    loads: list[Asked | Told] = field(default_factory=list)

    def note(self, message: Message) -> None:
        """Note ``message``, which is about to be written."""
        self.place += 1
        message.at = self.place
        if isinstance(message, Asked) and not message.quick:
            self.ids_open.append(message)
        if message.method == "initialize":
            self.initialize_asked += 1
        params = message.params
        if params is None or (isinstance(message, Asked) and message.kinds is not None):
            return
        if any(word in str(params.get("model")) for word in _ENDS_ENGINES):
            self.troubled = True
        if message.method in ("stream/ack", "stream/subscribe"):
            self.of_streams[stream_key(params["stream"])].append(message)
        if (note := _NOTES.get(message.method)) is not None:
            note(self, message, params)

    def cancelled(self, asked: Asked) -> bool:
        """Whether the request was cancelled, one way or another."""
        if self.cancelled_all:
            return True
        if any(place > asked.at and id_ == asked.id for place, id_ in self.ids_cancelled):
            return True
        stream = (asked.params or {}).get("stream")
        return stream is not None and self.streams_cancelled.get(stream_key(stream), 0) > asked.at

    def explains(self, kind: str, asked: Asked) -> str | None:
        """Return None if ``asked`` may be answered with this kind of error, else why not."""
        if asked.kinds is not None:
            return None if kind in asked.kinds else f"{kind} where one of {sorted(asked.kinds)} is due"
        if asked.params is None and kind not in {"invalid_params", "invalid_request", "not_initialized", *_AT_THE_DOOR}:
            return f"{kind}, but its parameters do not fit the schema"
        if kind not in _declared(asked.method):
            return f"{kind} is not among the errors of {asked.method}"
        return None if _EXPLAINED.get(kind, _never)(self, asked) else f"nothing explains {kind}"

    def parked(self, asked: Asked) -> bool:
        """Whether only a cancel can end the stream after its first delta, because it waits for an ack."""
        params = asked.params or {}
        if params.keys() != {"model", "prompt", "stream", "window"} or params["model"] != PARKED:
            return False
        key = stream_key(params["stream"])
        acked = any(told.method == "stream/ack" and told.at > asked.at for told in self.of_streams[key])
        rivals = [other for other in self.streams_asked[key] if not other.answered and other is not asked]
        hurt = self.cancelled(asked) or self.input_ended or self.troubled or self.unloaded or self.tight
        return not (acked or rivals or hurt or asked.answered)

    # Explanations.

    def _taken(self, asked: Asked) -> bool:
        return not asked.quick and any(
            other is not asked and other.id == asked.id and other.at < asked.at for other in self.ids_open
        )

    def _shut(self, asked: Asked) -> bool:
        return any(shutdown.at < asked.at for shutdown in self.shutdowns)

    def _named(self, asked: Asked) -> bool:
        """Whether another request may have the stream's name."""
        key = stream_key((asked.params or {}).get("stream"))
        return key in self.mute or any(other.at < asked.at for other in self.streams_asked[key])

    def _unknown(self, asked: Asked) -> bool:
        """Whether the stream may be unknown. A cancel finds a stream written before it; others may be early or late."""
        name = (asked.params or {}).get("stream")
        before = [other for other in self.streams_asked[stream_key(name)] if other.at < asked.at]
        there = [other for other in before if other.sure and other.failed is None and not self._shut(other)]
        return asked.method != "stream/cancel" or not there


def _declared(method: str) -> set[str]:
    """Return the errors of a method; a notification has some too, because sent with an id it is answered."""
    entry = METHODS[method]
    own = {"invalid_params", "not_initialized", "shutting_down"} if entry["kind"] == "notification" else set()
    return own | {error["kind"] for error in entry["errors"]}


def _never(facts: Facts, asked: Asked) -> bool:
    return False


def _model(asked: Asked) -> str:
    return str((asked.params or {}).get("model"))


def _says(*words: str) -> Callable[[Facts, Asked], bool]:
    return lambda facts, asked: any(word in _model(asked) for word in words)


def _troubled(facts: Facts, asked: Asked) -> bool:
    return facts.troubled


def _has(member: str) -> Callable[[Facts, Asked], bool]:
    return lambda facts, asked: (asked.params or {}).get(member) is not None


_EXPLAINED: dict[str, Callable[[Facts, Asked], bool]] = {
    "invalid_params": lambda facts, asked: not asked.sure,
    "invalid_request": lambda facts, asked: asked.method == "initialize" and asked.at > 1,
    "not_initialized": lambda facts, asked: asked.method == "initialized",
    "internal_error": _says(*_FAILS),
    "shutting_down": Facts._shut,
    "duplicate_id": Facts._taken,
    "duplicate_stream": Facts._named,
    "unknown_stream": Facts._unknown,
    "unknown_session": _has("session"),  # the machine keeps no id of a session
    "unknown_adapter": lambda facts, asked: asked.method == "adapter/unload",  # fake models have none
    "cancelled": lambda facts, asked: facts.cancelled(asked),
    # The fake engine's models lie nowhere.
    "model_not_found": lambda facts, asked: asked.method.startswith("local/") or "fail_load" in _model(asked),
    "model_load_failed": lambda facts, asked: facts.unloaded or "fail_load" in _model(asked),
    "model_unsupported": lambda facts, asked: "?" in _model(asked) and not asked.sure,
    "model_not_loaded": lambda facts, asked: (
        asked.method in ("unload", "cache/clear", "adapters") or facts.tight or facts.unloaded
    ),
    "model_in_use": lambda facts, asked: not (asked.params or {}).get("force"),
    "context_too_long": lambda facts, asked: not asked.sure,
    "unsupported_parameter": lambda facts, asked: asked.method != "generate" or not asked.sure,
    "out_of_memory": lambda facts, asked: facts.tight or "memory" in _model(asked),
    "deadline_passed": _has("deadline_s"),
    "engine_lost": _troubled,
    "engine_stalled": _troubled,
    "poison_request": _troubled,
}


def _generate(facts: Facts, message: Message, params: dict[str, Any]) -> None:
    stream = params.get("stream")
    if stream is None:
        return
    if isinstance(message, Asked):
        facts.streams_asked[stream_key(stream)].append(message)
    else:
        facts.mute.add(stream_key(stream))


def _cancel_stream(facts: Facts, message: Message, params: dict[str, Any]) -> None:
    facts.streams_cancelled[stream_key(params["stream"])] = message.at


def _cancel_id(facts: Facts, message: Message, params: dict[str, Any]) -> None:
    facts.ids_cancelled.append((message.at, params["id"]))


def _shutdown(facts: Facts, message: Message, params: dict[str, Any]) -> None:
    if isinstance(message, Asked):
        facts.shutdowns.append(message)
    facts.cancelled_all |= bool(params.get("cancel"))


def _exit(facts: Facts, message: Message, params: dict[str, Any]) -> None:
    facts.cancelled_all = True


def _unload(facts: Facts, message: Message, params: dict[str, Any]) -> None:
    facts.unloaded = True


def _load(facts: Facts, message: Message, params: dict[str, Any]) -> None:
    facts.unloaded |= params.get("ttl_s") is not None
    facts.loads.append(message)


_NOTES: dict[str, Callable[[Facts, Message, dict[str, Any]], None]] = {
    "generate": _generate,
    "stream/cancel": _cancel_stream,
    "$/cancelRequest": _cancel_id,
    "shutdown": _shutdown,
    "exit": _exit,
    "unload": _unload,
    "load": _load,
}

"""The promises of every ``generate`` request, checked frame by frame. Pure: no pipe, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

Frame = dict[str, Any]
_CANCELLED = -32800


@dataclass
class _Open:
    """A request without an answer yet, and the deltas of its stream."""

    params: Frame
    may: Collection[str] = ()
    cancelled: bool = False
    deltas: int = 0
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    going: bool = False  # a delta of the present engine came
    owed: bool = False  # a stream/interrupted is due: the engine was lost under it


class Promises:
    """Checks: one answer to each request, and no error; deltas without gaps, whose text and tokens are the answer's.

    After the loss of an engine each stream that had begun is interrupted once, before it goes on.
    ``broken`` has broken promises in words; ``endings`` counts answers by how they ended.
    """

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.endings: Counter[str] = Counter()
        self.tokens = 0
        self.interruptions = 0
        self.reads_late = False  # the host stops reading; then several losses may be told as one
        self.at_fault: set[int] = set()  # requests that ``broken`` is about
        self._engine_lives = True
        self._open: dict[int, _Open] = {}
        self._streams: dict[object, int] = {}

    @property
    def unanswered(self) -> list[int]:
        return list(self._open)

    def asked(self, id_: int, params: Frame, may: Collection[str] = ()) -> None:
        """Note that a ``generate`` request is being sent, which may end with an error of a kind in ``may``."""
        self._open[id_] = _Open(params, may)
        if "stream" in params:
            self._streams[params["stream"]] = id_

    def cancelled(self, id_: int) -> None:
        if id_ in self._open:
            self._open[id_].cancelled = True

    def answered(self, frame: Frame) -> None:
        request = self._open.pop(frame["id"], None)
        if request is None:
            self._broke(frame["id"], "a second answer, or one to nothing")
            return
        self._streams.pop(request.params.get("stream"), None)
        if "error" in frame:
            self._refused(frame, request)
        else:
            self._ended(frame["id"], frame["result"], request)

    def delta(self, params: Frame) -> None:
        id_ = self._streams.get(params["stream"])
        if id_ is None:
            self.broken.append(f"stream {params['stream']}: a delta after its answer")
            return
        request = self._open[id_]
        if (params["seq"], params["offset"]) != (request.deltas, len(request.text)):
            expected = f"{request.deltas} at {len(request.text)}"
            self._broke(id_, f"delta {params['seq']} at {params['offset']} where {expected} was due")
        request.deltas += 1
        request.going |= self._engine_lives  # else it is text that was held back
        request.text += params["text"]
        request.tokens += params["tokens"]

    def engine_lost(self) -> None:
        """Note that the host was told of the loss."""
        self._engine_lives = False
        for request in self._open.values():
            request.owed = request.going and not self.reads_late

    def engine_ready(self) -> None:
        """Note that a new engine takes work; requests that ended with the old one have been answered."""
        self._engine_lives = True
        for id_, request in self._open.items():
            if request.owed:
                self._broke(id_, "the engine was lost under it, and no stream/interrupted said so")
            request.owed = False

    def interrupted(self, params: Frame) -> None:
        self.interruptions += 1
        id_ = self._streams.get(params["stream"])
        if id_ is None:
            self.broken.append(f"stream {params['stream']}: interrupted after its answer")
            return
        request = self._open[id_]
        request.going = request.owed = False
        if params.get("last_seq", -1) != request.deltas - 1:
            self.broken.append(
                f"{id_}: interrupted after delta {params.get('last_seq')}, and {request.deltas} had come"
            )

    def _broke(self, id_: int, what: str) -> None:
        self.broken.append(f"{id_}: {what}")
        self.at_fault.add(id_)

    def _refused(self, frame: Frame, request: _Open) -> None:
        if _kind(frame["error"]) in request.may:
            self.endings[_kind(frame["error"])] += 1
            return
        self.endings[f"error {frame['error']['code']}"] += 1
        if not (request.cancelled and frame["error"]["code"] == _CANCELLED):
            self._broke(frame["id"], f"{frame['error']} to {_brief(request.params)}")

    def _ended(self, id_: int, result: Frame, request: _Open) -> None:
        reason = result["finish_reason"]
        if reason == "error" and _kind(result.get("error")) in request.may:
            reason = _kind(result["error"])
        self.endings[reason] += 1
        self.tokens += result["usage"]["completion_tokens"]
        allowed = {"length", "stop", *request.may}
        allowed |= {"cancelled"} if request.cancelled else set()
        allowed |= {"deadline"} if "deadline_s" in request.params else set()
        if reason not in allowed:
            self._broke(id_, f"finish_reason {reason} ({result.get('error')}) for {_brief(request.params)}")
        if len(result["tokens"]) != result["usage"]["completion_tokens"]:
            self._broke(id_, f"{len(result['tokens'])} tokens, and usage says {result['usage']}")
        if "stream" in request.params:
            self._streamed(id_, result, request)

    def _streamed(self, id_: int, result: Frame, request: _Open) -> None:
        for name, told in (("text", request.text), ("tokens", request.tokens)):
            if result[name] != told:
                self._broke(id_, f"the deltas' {name} is not the answer's: {told!r}, {result[name]!r}")
        if result.get("last_seq", -1) != request.deltas - 1:
            self._broke(id_, f"last_seq {result.get('last_seq')} after {request.deltas} deltas")


def ending(answer: Frame) -> str:
    """Return the finish reason of a ``generate``, or the kind of its error."""
    if "error" in answer:
        return _kind(answer["error"])
    result = answer["result"]
    return _kind(result.get("error")) if result["finish_reason"] == "error" else str(result["finish_reason"])


def _kind(error: Frame | None) -> str:
    return str((error or {}).get("data", {}).get("kind", "none"))


def _brief(params: Frame) -> Frame:
    return {name: value for name, value in params.items() if name not in ("tokens", "prompt", "messages")}

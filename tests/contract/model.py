"""The contract as a model: it gets every frame that is written and read, and raises Broken for a broken promise.

- each request is answered exactly once, with a result of its method or an error that can be explained;
- nothing else is answered, and a batch is answered as one array in its order;
- deltas have no gaps, and are together the answer; none follows it; no window is exceeded;
- ``finish_reason`` is explained by the host's messages or the script;
- at the end no answer is due.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from tests.support.frames import validator

from .expected import METHODS, Array, Asked, Message, Told, id_text, loads, read, refused
from .facts import Facts, StreamKey, stream_key
from .ledger import Ledger
from .streams import Broken, Json, Run, demand

_SHOWN = 70  # frames of a transcript in a failure
_SHOWN_CHARACTERS = 300

__all__ = ["Broken", "Contract"]


class Contract:
    """One connection, from its first byte to its end."""

    def __init__(self, *, batch_limit: int = 1000, frame_limit_bytes: int = 1 << 26, tight: bool = False) -> None:
        self.facts = Facts(tight=tight)
        self.transcript: list[str] = []
        self.heard: list[tuple[Json, str]] = []  # each message of the sidecar, and the method whose result it is
        self._greeted = False
        self._batch_limit = batch_limit
        self._frame_limit_bytes = frame_limit_bytes
        self._owed: defaultdict[str, Ledger[Any, Any]] = defaultdict(Ledger)
        self._runs: dict[StreamKey, Run] = {}
        self._ended: dict[StreamKey, Run] = {}  # for late subscriptions

    # Steps of the host.

    def written(self, text: bytes, *, sure: bool = False) -> Asked | Array | None:
        """Note a frame before it is written; return the answers due for it. ``sure``: its parameters are good."""
        self._note("→", text.decode(errors="replace"))
        due, messages = read(text, self._batch_limit, self._frame_limit_bytes)
        for message in messages:
            if isinstance(message, Asked):
                message.sure = sure
                self._refuse_what_is_taken(message)
            self.facts.note(message)
            if (key := _stream_of(message)) is not None:
                for run in {id(run): run for run in (self._runs.get(key), self._ended.get(key)) if run}.values():
                    run.hear(message)
        if isinstance(due, Array):
            self._owed["[]"].asked.append(due)
        elif due is not None:
            self._owed[id_text(due.id)].asked.append(due)
        return due

    def input_ended(self) -> None:
        """Note that the host closes its end: from here on no window holds."""
        self._note("→", "the end of input")
        self.facts.input_ended = True

    def broken_off(self, what: str, kind: str) -> None:
        """Note bytes that end the session with one error and cancel all that runs."""
        self._note("→", what)
        self.facts.cancelled_all = True
        self._owed["null"].asked.append(refused(None, kind))

    @property
    def open(self) -> list[Asked]:
        """Requests without an answer, those in batches included."""
        return [*self.alone, *(asked for batch in self._owed["[]"].waiting for asked in batch.slots)]

    @property
    def alone(self) -> list[Asked]:
        """Requests without an answer that are in no batch."""
        return [due for key, ledger in self._owed.items() if key != "[]" for due in ledger.waiting]

    @property
    def was_shut_down(self) -> bool:
        """Whether a shutdown was taken. Right only when everything has been answered."""
        return any(asked.failed is None for asked in self.facts.shutdowns)

    def run_of(self, stream: Any) -> Run | None:
        """Return the stream that runs under a name, if a delta of it has come."""
        return self._runs.get(stream_key(stream))

    # Messages of the sidecar.

    def heard_frame(self, text: bytes) -> None:
        """Judge a frame that has been read. Raises Broken."""
        self._note("←", text.decode(errors="replace"))
        frame = loads(text)
        if isinstance(frame, list):
            self._answered("[]", frame)
        elif "method" in frame:
            self.heard.append((frame, ""))
            self._told(frame["method"], frame["params"])
        else:
            self._answered(id_text(frame["id"]), frame)

    def session_ended(self) -> None:
        """Judge the end: the sidecar has left and all its frames have been read. Raises Broken if an answer is due."""
        owed = [str(due) for ledger in self._owed.values() for due in ledger.waiting]
        demand(not owed, f"never answered: {owed}")

    def told(self, why: str) -> str:
        """Return ``why`` with the transcript's end."""
        return "\n".join([why, f"The last {_SHOWN} frames of {len(self.transcript)}:", *self.transcript[-_SHOWN:]])

    def _note(self, way: str, what: str) -> None:
        cut = what if len(what) <= _SHOWN_CHARACTERS else f"{what[:_SHOWN_CHARACTERS]}… ({len(what)} characters)"
        self.transcript.append(f"{way} {cut}")

    # Answers.

    def _answered(self, key: str, answer: Any) -> None:
        objections: list[str] = []
        given = self._owed[key].give(answer, lambda due, given: self._fits(due, given, objections))
        if given is None:
            already = "answered twice, or " if self._owed[key].asked and not self._owed[key].waiting else ""
            raise Broken(f"{already}nobody's answer: {json.dumps(answer)[:500]} {objections}")
        owner, content = given
        for asked in content.slots if isinstance(content, Array) else [content]:
            asked.answered = True
        if isinstance(owner, Array):
            for asked, one in zip(owner.slots, answer, strict=True):
                self._settle(asked, one)
        else:
            self._settle(owner, answer)

    def _fits(self, due: Any, answer: Any, objections: list[str]) -> bool:
        if isinstance(due, Array):
            return len(due.slots) == len(answer) and all(
                self._fits(asked, one, objections) for asked, one in zip(due.slots, answer, strict=True)
            )
        objection = self._objection(due, answer)
        if objection is not None:
            objections.append(f"{due}: {objection}")
        return objection is None

    def _objection(self, asked: Asked, answer: Json) -> str | None:
        """Return why ``answer`` is not one to ``asked``; None if it may be."""
        if id_text(answer["id"]) != id_text(asked.id):
            return "another id"
        if "error" in answer:
            return self.facts.explains(answer["error"]["data"]["kind"], asked)
        if asked.kinds is not None:
            return f"a result where one of {sorted(asked.kinds)} is due"
        if asked.params is None:
            return "a result, but its parameters do not fit the schema"
        if not validator(result_of(asked.method)).is_valid(answer["result"]):
            return "not a result of this method"
        return self._ending_objection(asked, answer["result"]) if asked.method == "generate" else None

    def _ending_objection(self, asked: Asked, result: Json) -> str | None:
        params, reason = asked.params or {}, result["finish_reason"]
        if result.get("stream") != params.get("stream"):
            return "the result of another stream"
        if reason == "cancelled" and not self.facts.cancelled(asked):
            return "nobody cancelled it"
        if reason == "deadline" and params.get("deadline_s") is None:
            return "it has no deadline"
        if reason == "repeated" and params.get("repeat_guard") is None:
            return "it has no guard"
        if reason == "error":
            return self.facts.explains(result["error"]["data"]["kind"], asked)
        if result["usage"]["completion_tokens"] > (params.get("max_tokens") or float("inf")):
            return "more tokens than it asked for"
        return None

    def _settle(self, asked: Asked, answer: Json) -> None:
        """Note that ``answer`` is the one of ``asked``."""
        self.heard.append((answer, asked.method))
        if "error" in answer:
            asked.failed = answer["error"]["data"]["kind"]
        elif asked.method == "initialize":
            demand(not self._greeted, "initialize succeeded twice")
            self._greeted = True
        elif asked.method == "generate":
            self._generated(asked.params or {}, answer["result"])
        elif asked.method == "stream/subscribe":
            self._subscribed(asked.params or {}, answer["result"])

    def _generated(self, params: Json, result: Json) -> None:
        if params.get("echo_text") is not False:
            count = result["usage"]["completion_tokens"]
            demand(len(result["tokens"]) == count, f"{count} completion tokens, and {len(result['tokens'])} told")
            entries = [entry["token"] for entry in result.get("logprobs", ())]
            demand(entries == (result["tokens"] if params.get("logprobs") is not None else []), "wrong logprobs")
        if (name := params.get("stream")) is not None:
            run = self._runs.pop(stream_key(name), None) or Run()
            self._ended[stream_key(name)] = run
            run.judge_end(params, result, windows=not self.facts.input_ended)

    def _subscribed(self, params: Json, result: Json) -> None:
        key = stream_key(params["stream"])
        demand(stream_key(result["stream"]) == key, "the answer names another stream")
        counts = [run.count for run in (self._runs.get(key), self._ended.get(key)) if run is not None]
        last = result.get("last_seq", -1)
        demand(key in self.facts.mute or last < max(counts, default=0), f"last_seq {last} of {counts} deltas")

    # Notifications.

    def _told(self, method: str, params: Json) -> None:
        entry = METHODS.get(method, {})
        demand(entry.get("direction") == "sidecar-to-host", f"the sidecar does not tell {method}")
        if method == "stream/delta":
            self._delta(params)
        elif method == "stream/interrupted":
            self._interrupted(params)
        elif method == "progress":
            tokens = [(load.params or {}).get("progress") for load in self.facts.loads if self._may_run(load)]
            demand(params["token"] in tokens, f"progress of {params['token']!r}, which no load asked for")
        elif method == "log":
            demand(self.facts.initialize_asked, "a log without initialize")
        else:
            demand(self.facts.initialize_asked or self.facts.troubled, "the engine's state, unasked")

    def _delta(self, params: Json) -> None:
        key = stream_key(params["stream"])
        run = self._runs.get(key)
        restarts = key in self.facts.mute and params["seq"] == 0  # the end of the one before has no answer
        if run is None or restarts:
            run = self._late(key, params["seq"]) or self._begun(key)
        try:
            run.take(params)
        except Broken as why:
            raise Broken(f"stream {params['stream']!r}: {why}") from None

    def _late(self, key: StreamKey, seq: int) -> Run | None:
        """Return the ended stream of this delta, to which the host subscribed."""
        run = self._ended.get(key)
        return run if run is not None and run.goes_back and 0 < seq == run.count else None

    def _begun(self, key: StreamKey) -> Run:
        waiting = [asked for asked in self.facts.streams_asked[key] if self._may_run(asked)]
        demand(waiting or key in self.facts.mute, f"a delta of {key[1]!r}, and no such stream runs")
        run = self._runs[key] = Run()
        since = min((asked.at for asked in waiting), default=0)
        for message in self.facts.of_streams[key]:
            if message.at > since:
                run.hear(message)
        return run

    def _interrupted(self, params: Json) -> None:
        key = stream_key(params["stream"])
        demand(self.facts.troubled, "a stream was interrupted, and nobody hurt the engine")
        runs = key in self.facts.mute or any(map(self._may_run, self.facts.streams_asked[key]))
        demand(runs, f"{key[1]!r} was interrupted, and no such stream runs")
        if key not in self.facts.mute:
            count = self._runs[key].count if key in self._runs else 0
            last = params.get("last_seq", -1)
            demand(last == count - 1, f"interrupted after delta {last}, and {count} had come")

    def _may_run(self, message: Message) -> bool:
        """Whether a request may still run; an answer under its id may belong to another with the same id."""
        return isinstance(message, Told) or not message.answered or bool(self._owed[id_text(message.id)].waiting)

    def _refuse_what_is_taken(self, asked: Asked) -> None:
        """Expect a refusal if the id or the name of a stream that surely runs is used again."""
        if asked.quick:
            return
        for names in self.facts.streams_asked.values():
            for other in names:
                if self.run_of((other.params or {})["stream"]) and self.facts.parked(other):
                    if other.id == asked.id:
                        asked.kinds = frozenset({"duplicate_id"})
                    elif asked.sure and stream_key((asked.params or {}).get("stream")) == _key(other):
                        asked.kinds = frozenset({"duplicate_stream", "duplicate_id", "shutting_down"})


def _stream_of(message: Message) -> StreamKey | None:
    """Return the stream that an ack or a subscription is about."""
    about = message.params is not None and message.method in ("stream/ack", "stream/subscribe")
    return _key(message) if about else None


def _key(message: Message) -> StreamKey:
    return stream_key((message.params or {})["stream"])


def result_of(method: str) -> str:
    """Return the definition of a method's result; {} for a notification that was sent with an id."""
    result = METHODS[method]["result"]
    return "EmptyResult" if result is None else str(result["$ref"]).rsplit("/", 1)[1]

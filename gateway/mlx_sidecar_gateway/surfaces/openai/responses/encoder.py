"""Streamed responses: events for the response, for each item of its output, and for each part of an item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from mlx_sidecar_client import GenerateResult

from ... import sse
from ...events import CUT_SHORT, Delta, Reasoning, Text, ToolStart
from ...faults import Fault
from ..errors import error_of
from .answer import Reply, function_call, logprobs_of, message, output_text

Keep = Callable[[GenerateResult, bytes], None]

_TERMINALS: Final = dict.fromkeys(CUT_SHORT, "response.incomplete")


@dataclass
class _Open:
    """The item that is being written: its place, and what it has so far. ``before`` begins each of its deltas."""

    kind: Literal["message", "reasoning", "function_call"]
    id: str
    before: bytes
    texts: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        return "".join(self.texts)


class ResponseEncoder:
    """Writes a response as events, numbered without gaps: each run of text or reasoning, and each call, is an item.

    ``keep`` gets the whole response before its last event is written.
    """

    def __init__(self, reply: Reply, keep: Keep) -> None:
        self._reply = reply
        self._keep = keep
        self._events = 0
        self._output: list[dict[str, Any]] = []
        self._open: _Open | None = None

    def delta(self, event: Delta) -> bytes:
        if isinstance(event, Text):
            return self._text(event)
        if isinstance(event, Reasoning):
            return self._run("reasoning") + self._more(event.text)
        if isinstance(event, ToolStart):
            return self._begin_call(event)
        return self._more(event.arguments)

    def ping(self) -> bytes:
        return self._start() + sse.PING

    def end(self, result: GenerateResult) -> bytes:
        is_cut = result.finish_reason in CUT_SHORT
        data = self._start() + self._close(is_cut=is_cut)
        if not self._output:
            data += self._run("message") + self._close(is_cut=is_cut)
        response = self._reply.ended(self._output, result)
        self._keep(result, response)
        type_ = _TERMINALS.get(result.finish_reason, "response.completed")
        return data + self._event(type_, {"response": orjson.Fragment(response)})

    def error(self, fault: Fault) -> bytes:
        # The member ``error`` is for SDKs, which raise for it alone; agents read the one of the response.
        told = {"response": self._reply.failed(self._output, fault), **error_of(fault)}
        return self._start() + self._event("response.failed", told)

    def _start(self) -> bytes:
        """The first two events, in front of whatever comes first."""
        if self._events:
            return b""
        begun = {"response": self._reply.begun()}
        return self._event("response.created", begun) + self._event("response.in_progress", begun)

    def _event(self, type_: str, members: dict[str, Any]) -> bytes:
        self._events += 1
        return sse.event(type_, {"type": type_, "sequence_number": self._events - 1, **members})

    # Deltas.

    def _text(self, event: Text) -> bytes:
        if not self._reply.with_logprobs:
            return self._run("message") + self._more(event.text) if event.text else b""
        entries = logprobs_of(event.logprobs or ())
        begun = self._run("message")
        assert self._open is not None
        self._open.logprobs += entries
        return begun + self._more(event.text, b',"logprobs":' + orjson.dumps(entries))

    def _more(self, text: str, more: bytes = b"") -> bytes:
        """A delta of the open item."""
        assert self._open is not None
        self._open.texts.append(text)
        number, self._events = self._events, self._events + 1
        return b'%b%d%b,"delta":%b}\n\n' % (self._open.before, number, more, orjson.dumps(text))

    # Items.

    def _run(self, kind: Literal["message", "reasoning"]) -> bytes:
        """The begin of an item of this kind, unless one is open."""
        if self._open is not None and self._open.kind == kind:
            return b""
        return self._begin_message() if kind == "message" else self._begin_reasoning()

    def _begin_message(self) -> bytes:
        ended = self._start() + self._close()
        id_ = self._reply.item_id("msg", len(self._output))
        members = self._part(id_) | ({} if self._reply.with_logprobs else {"logprobs": []})
        self._open = _Open("message", id_, _before("response.output_text.delta", members))
        added = self._event("response.output_item.added", self._item(message(id_, "in_progress", [])))
        part = {**self._part(id_), "part": output_text("", [])}
        return ended + added + self._event("response.content_part.added", part)

    def _begin_reasoning(self) -> bytes:
        ended = self._start() + self._close()
        id_ = self._reply.item_id("rs", len(self._output))
        added = self._event("response.output_item.added", self._item(self._reply.reasoning(id_, "")))
        if self._reply.summarised:
            delta, part = "response.reasoning_summary_text.delta", "response.reasoning_summary_part.added"
        else:
            delta, part = "response.reasoning_text.delta", "response.content_part.added"
        self._open = _Open("reasoning", id_, _before(delta, self._part(id_)))
        return ended + added + self._event(part, {**self._part(id_), "part": self._reasoning_part("")})

    def _begin_call(self, call: ToolStart) -> bytes:
        ended = self._start() + self._close()
        id_ = self._reply.item_id("fc", len(self._output))
        members = {"item_id": id_, "output_index": len(self._output)}
        before = _before("response.function_call_arguments.delta", members)
        self._open = _Open("function_call", id_, before, call_id=call.id, name=call.name)
        item = function_call(id_, "in_progress", call.id, call.name, "")
        return ended + self._event("response.output_item.added", self._item(item))

    def _close(self, *, is_cut: bool = False) -> bytes:
        """The end of the open item, which the end of the answer may have cut off."""
        if self._open is None:
            return b""
        item, done = self._done(self._open, "incomplete" if is_cut else "completed")
        done += self._event("response.output_item.done", self._item(item))
        self._output.append(item)
        self._open = None
        return done

    def _done(self, was: _Open, status: str) -> tuple[dict[str, Any], bytes]:
        """An item, and the events before the one that tells it whole."""
        text, place = was.text, self._part(was.id)
        if was.kind == "message":
            part = output_text(text, was.logprobs)
            told = {**place, "text": text, "logprobs": was.logprobs}
            done = self._event("response.output_text.done", told)
            done += self._event("response.content_part.done", {**place, "part": part})
            return message(was.id, status, [part]), done
        if was.kind == "reasoning":
            texts, parts = (
                ("response.reasoning_summary_text.done", "response.reasoning_summary_part.done")
                if self._reply.summarised
                else ("response.reasoning_text.done", "response.content_part.done")
            )
            done = self._event(texts, {**place, "text": text})
            done += self._event(parts, {**place, "part": self._reasoning_part(text)})
            return self._reply.reasoning(was.id, text), done
        members = {"item_id": was.id, "output_index": len(self._output), "name": was.name, "arguments": text}
        done = self._event("response.function_call_arguments.done", members)
        return function_call(was.id, _status_of(text), was.call_id, was.name, text), done

    def _item(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"output_index": len(self._output), "item": item}

    def _part(self, id_: str) -> dict[str, Any]:
        """The place of the only part of an item."""
        index = "summary_index" if self._reply.summarised and id_.startswith("rs_") else "content_index"
        return {"item_id": id_, "output_index": len(self._output), index: 0}

    def _reasoning_part(self, text: str) -> dict[str, Any]:
        return {"type": "summary_text" if self._reply.summarised else "reasoning_text", "text": text}


def _before(type_: str, members: dict[str, Any]) -> bytes:
    """The bytes of a delta up to its number. They are made once for each item, so that a delta costs one string."""
    event = sse.event(type_, {"type": type_, **members, "sequence_number": 0})
    return event.removesuffix(b"0}\n\n")


def _status_of(arguments: str) -> str:
    """Whether a call is whole; one that the end of the answer, or the model, broke off is not JSON."""
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return "incomplete"
    return "completed"

"""Answers of ``chat/completions``: whole ones, and chunks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mlx_sidecar_client import GenerateResult

from .. import sse
from ..events import Delta, Reasoning, Text, ToolStart
from ..faults import Fault
from ..repeated import Repeated
from .common import finish_reason, number, usage_of
from .errors import event_of

_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """The members that every part of one answer repeats. ``model`` is the name that the client gave."""

    id: str
    created: int
    model: str
    with_logprobs: bool


def whole(reply: Reply, result: GenerateResult) -> bytes:
    """The body of an answer that is not streamed."""
    calls = [_call(call.id, call.name, call.arguments) for call in result.tool_calls or ()]
    message: dict[str, Any] = {
        "role": "assistant",
        # As OpenAI's: null beside calls if the model wrote nothing else.
        "content": None if calls and not result.text else result.text,
        "refusal": None,
    }
    if result.reasoning is not None:
        message["reasoning_content"] = result.reasoning
    if calls:
        message["tool_calls"] = calls
    logprobs = None
    if reply.with_logprobs:
        logprobs = {"content": _logprobs(entry.model_dump() for entry in result.logprobs or ()), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason(result)}
    return orjson.dumps(
        {
            "id": reply.id,
            "object": "chat.completion",
            "created": reply.created,
            "model": reply.model,
            "choices": [choice],
            "usage": usage_of(result),
        }
    )


class ChatEncoder:
    """Writes an answer as chunks. What they repeat is encoded once; of a delta only its text is."""

    def __init__(self, reply: Reply, *, with_usage: bool) -> None:
        self._with_logprobs = reply.with_logprobs
        self._with_usage = with_usage
        self._shared = {
            "id": reply.id,
            "object": "chat.completion.chunk",
            "created": reply.created,
            "model": reply.model,
        }
        self._content = Repeated(lambda text: self._chunk({"content": text}))
        self._reasoning = Repeated(lambda text: self._chunk({"reasoning_content": text}))
        self._arguments: dict[int, Repeated] = {}  # by the call's index
        self._has_begun = False

    def delta(self, event: Delta) -> bytes:
        if isinstance(event, Text):
            chunk = self._with_its_logprobs(event) if self._with_logprobs else self._content.around(event.text)
        elif isinstance(event, Reasoning):
            chunk = self._reasoning.around(event.text)
        elif isinstance(event, ToolStart):
            index = event.index
            chunk = self._chunk({"tool_calls": [{"index": index, **_call(event.id, event.name, "")}]})
            self._arguments[index] = Repeated(
                lambda text: self._chunk({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
            )
        else:
            chunk = self._arguments[event.index].around(event.arguments)
        return chunk if self._has_begun else self._opening() + chunk

    def ping(self) -> bytes:
        return sse.PING

    def end(self, result: GenerateResult) -> bytes:
        end = self._opening() + self._chunk({}, finish_reason(result))
        if self._with_usage:
            end += sse.data({**self._shared, "choices": [], "usage": usage_of(result)})
        return end + _DONE

    def error(self, fault: Fault) -> bytes:
        return event_of(fault)

    def _opening(self) -> bytes:
        """The first chunk, which has the role alone; before the first delta, or the end."""
        if self._has_begun:
            return b""
        self._has_begun = True
        return self._chunk({"role": "assistant", "content": None})

    def _with_its_logprobs(self, event: Text) -> bytes:
        logprobs = {"content": _logprobs(event.logprobs or ()), "refusal": None}
        return self._chunk({"content": event.text or None}, logprobs=logprobs)

    def _chunk(self, delta: dict[str, Any], reason: str | None = None, **members: Any) -> bytes:
        choice = {"index": 0, "delta": delta, **members, "finish_reason": reason}
        # A chunk of a stream that reports usage says that it has none.
        usage = {"usage": None} if self._with_usage else {}
        return sse.data({**self._shared, "choices": [choice], **usage})


def _call(id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def _logprobs(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The sidecar's log probabilities in OpenAI's shape."""
    return [{**_token(entry), "top_logprobs": [_token(other) for other in entry["top"]]} for entry in entries]


def _token(entry: Mapping[str, Any]) -> dict[str, Any]:
    text = entry["text"]
    # A token that is no whole character has U+FFFD for its bytes, which are not known then.
    is_known = "\ufffd" not in text
    return {
        "token": text,
        "logprob": number(entry.get("logprob")),
        "bytes": list(text.encode()) if is_known else None,
    }

"""Answers of Anthropic's Messages: streams of events, and whole messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from mlx_sidecar_client import GenerateResult

from .. import sse
from ..events import CUT_SHORT, Delta, Reasoning, Text, ToolStart
from ..faults import Fault
from ..repeated import Repeated
from .faults import error_of

_PING: Final = sse.event("ping", {"type": "ping"})
_STOP: Final = sse.event("message_stop", {"type": "message_stop"})
_NO_USAGE: Final = {"input_tokens": 0, "output_tokens": 0}


@dataclass(frozen=True)
class Asked:
    """The parts of a request that its answer depends on.

    omits: Reasoning is told of, but not its text.
    stops: The request has stop sequences; others are the gateway's own, and the end of a turn to the client.
    """

    id: str
    model: str
    max_tokens: int
    omits: bool = False
    stops: bool = True

    def message(self, content: list[Any], stop: Mapping[str, Any], usage: Mapping[str, Any]) -> dict[str, Any]:
        """A message as Anthropic has it."""
        message = {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "model": self.model}
        ended = {"stop_reason": None, "stop_sequence": None, "stop_details": None, **stop}
        return {**message, "content": content, **ended, "usage": usage}

    def stop(self, result: GenerateResult) -> dict[str, Any]:
        """The reason for the end."""
        if result.stop_match is not None and self.stops:
            return {"stop_reason": "stop_sequence", "stop_sequence": result.stop_match}
        if result.finish_reason in CUT_SHORT:
            full = result.finish_reason == "length" and result.usage.completion_tokens < self.max_tokens
            return {"stop_reason": "model_context_window_exceeded" if full else "max_tokens", "stop_sequence": None}
        reason = "tool_use" if result.finish_reason == "tool_calls" else "end_turn"
        return {"stop_reason": reason, "stop_sequence": None}

    def whole(self, result: GenerateResult) -> bytes:
        """The body of an answer that is not streamed."""
        content: list[dict[str, Any]] = []
        if result.reasoning:
            content.append({"type": "thinking", "thinking": "" if self.omits else result.reasoning, "signature": ""})
        if result.text:
            content.append({"type": "text", "text": result.text})
        content += [
            {**_tool_use(call.id, call.name), "input": orjson.Fragment(call.arguments)}
            for call in result.tool_calls or ()
        ]
        return orjson.dumps(self.message(content, self.stop(result), usage_of(result)))


class MessageEncoder:
    """Writes a message as events: each run of text or reasoning, and each call, is a block of its own.

    The prompt's length is not known before the end: ``message_start`` says 0, and ``message_delta`` the whole usage.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._started = False
        self._blocks = 0
        self._open = ""  # the type of the block that is open
        self._block: Repeated  # a delta of that block

    def delta(self, event: Delta) -> bytes:
        if isinstance(event, Text):
            return self._in_block("text", event.text)
        if isinstance(event, Reasoning):
            return self._in_block("thinking", event.text)
        if isinstance(event, ToolStart):
            return self._begin(_tool_use(event.id, event.name), "input_json_delta", "partial_json")
        return self._block.around(event.arguments)

    def ping(self) -> bytes:
        return self._start() + _PING

    def end(self, result: GenerateResult) -> bytes:
        delta = {"type": "message_delta", "delta": self._asked.stop(result), "usage": usage_of(result)}
        return self._start() + self._close() + sse.event("message_delta", delta) + _STOP

    def error(self, fault: Fault) -> bytes:
        return sse.event("error", error_of(fault))

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        return sse.event("message_start", {"type": "message_start", "message": self._asked.message([], {}, _NO_USAGE)})

    def _in_block(self, type_: str, text: str) -> bytes:
        """More text of the open block, or of one that begins here if that is of another type."""
        if not text:
            return b""
        begun = b""
        if self._open != type_:
            signed = {"signature": ""} if type_ == "thinking" else {}
            begun = self._begin({"type": type_, type_: "", **signed}, f"{type_}_delta", type_)
        return begun if type_ == "thinking" and self._asked.omits else begun + self._block.around(text)

    def _begin(self, block: dict[str, Any], delta: str, member: str) -> bytes:
        ended = self._start() + self._close()
        index, self._blocks, self._open = self._blocks, self._blocks + 1, block["type"]
        self._block = Repeated(lambda text: _more(index, {"type": delta, member: text}))
        start = {"type": "content_block_start", "index": index, "content_block": block}
        return ended + sse.event("content_block_start", start)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        index, was, self._open = self._blocks - 1, self._open, ""
        stop = sse.event("content_block_stop", {"type": "content_block_stop", "index": index})
        if was != "thinking":
            return stop
        return _more(index, {"type": "signature_delta", "signature": ""}) + stop


def usage_of(result: GenerateResult) -> dict[str, Any]:
    """The counts of tokens. The prompt is the sum of ``input_tokens`` and what was read from the cache."""
    usage = result.usage
    counts: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    }
    if usage.reasoning_tokens is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts


def _tool_use(id_: str, name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": name, "input": {}}


def _more(index: int, delta: dict[str, Any]) -> bytes:
    return sse.event("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta})

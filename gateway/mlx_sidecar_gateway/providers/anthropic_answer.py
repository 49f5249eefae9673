"""Reads the events of a server that speaks Anthropic's Messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_client.protocol.generate import FinishReason

from ..surfaces.faults import Fault, Refused
from .events import Malformed, ServerEvent
from .failures import FILTERED, STATUS
from .gathered import Delta, Gathered, count_in, object_in, object_of, text_in

_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class AnthropicAnswer:
    """One answer, taken event by event. It is whole with a ``stop_reason``, its usage and ``message_stop``.

    ``error`` is the ``error`` member of an event that ended it instead.
    """

    def __init__(self, gathered: Gathered, seed: int = 0) -> None:
        self._gathered = gathered
        self._seed = seed
        self._reason = ""
        self._stop_match: str | None = None
        self._usage: dict[str, int] = {}
        self.is_done = False
        self.error: Any = None

    def take(self, event: ServerEvent) -> Iterator[Delta]:
        """The deltas of an event. Raises ``Malformed``."""
        members = object_of(event.data)
        match members.get("type"):
            case "message_start":
                self._count(object_in(object_in(members, "message"), "usage"))
            case "content_block_start":
                yield from self._gathered.closing()
                yield from self._block(object_in(members, "content_block"))
            case "content_block_delta":
                yield from self._delta(object_in(members, "delta"))
            case "message_delta":
                delta = object_in(members, "delta")
                self._reason = text_in(delta, "stop_reason") or self._reason
                self._stop_match = text_in(delta, "stop_sequence") or None
                self._count(object_in(members, "usage"))
                if self._reason == "tool_use":
                    yield from self._gathered.closing()
            case "message_stop":
                self.is_done = True
            case "error":
                self.error = members.get("error")
            case str():
                pass  # a ping, or one that a later version has
            case _:
                raise Malformed("an event of it has no type")

    def result(self) -> GenerateResult:
        """The result. Raises ``Malformed`` if the answer is not whole."""
        if not self._reason or not self.is_done:
            raise Malformed("it ended before its answer was whole")
        if self._reason == "refusal":
            raise Refused(Fault(STATUS[FILTERED], FILTERED, "the provider's filter cut the answer off"))
        reason: FinishReason | None = _REASONS.get(self._reason)
        if reason is None:
            raise Malformed(f"it ended with the stop_reason {self._reason[:40]!r}")
        if reason == "tool_calls" and not self._gathered.calls:
            raise Malformed("it ended with the stop_reason 'tool_use', and without a call")
        return self._gathered.result(reason, self._stop_match, self._seed)

    def _block(self, block: Mapping[str, Any]) -> Iterator[Delta]:
        match block.get("type"):
            case "text":
                if text := text_in(block, "text"):
                    yield self._gathered.text(text)
            case "thinking":
                if text := text_in(block, "thinking"):
                    yield self._gathered.reasoning(text)
            case "tool_use":
                if not (name := text_in(block, "name")):
                    raise Malformed("a call of it has no name")
                yield self._gathered.call(text_in(block, "id"), name)
            case "redacted_thinking":
                pass  # there is nothing to read in it
            case other:
                raise Malformed(f"it has a block of the type {str(other)[:40]!r}")

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        match delta.get("type"):
            case "text_delta":
                if text := text_in(delta, "text"):
                    yield self._gathered.text(text)
            case "thinking_delta":
                if text := text_in(delta, "thinking"):
                    yield self._gathered.reasoning(text)
            case "input_json_delta":
                if text := text_in(delta, "partial_json"):
                    yield self._gathered.arguments(text)

    def _count(self, usage: Mapping[str, Any]) -> None:
        """Take counts, of which later ones hold. The prompt is what was computed and what was cached."""
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"):
            if (count := count_in(usage, name)) is not None:
                self._usage[name] = count
        counts, told = self._gathered.counts, self._usage
        counts.cached = told.get("cache_read_input_tokens", 0)
        if "input_tokens" in told:
            counts.prompt = told["input_tokens"] + counts.cached + told.get("cache_creation_input_tokens", 0)
        counts.completion = told.get("output_tokens")
        counts.reasoning = count_in(object_in(usage, "output_tokens_details"), "thinking_tokens") or counts.reasoning

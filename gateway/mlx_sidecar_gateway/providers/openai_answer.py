"""Reads the events of a server that speaks OpenAI's ``chat/completions``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_client.protocol.generate import FinishReason

from ..surfaces.faults import Fault, Refused
from .events import Malformed, ServerEvent
from .failures import FILTERED, STATUS
from .gathered import Delta, Gathered, count_in, object_in, object_of, text_in

_DONE: Final = "[DONE]"
_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


class OpenAIAnswer:
    """One answer, taken event by event. It is whole with a ``finish_reason``, its usage and ``[DONE]``.

    ``error`` is the ``error`` member of an event that ended it instead.
    """

    def __init__(self, gathered: Gathered, stop: tuple[str, ...] = (), seed: int = 0) -> None:
        self._gathered = gathered
        self._stop, self._seed = stop, seed
        self._reason = ""
        self._stop_match: str | None = None
        self._index: int | None = None  # of the call that came last, as the upstream counts
        self.is_done = False
        self.error: Any = None

    def take(self, event: ServerEvent) -> Iterator[Delta]:
        """The deltas of an event. Raises ``Malformed``, and ``Refused`` for an answer that was filtered."""
        if event.data == _DONE:
            self.is_done = True
            return
        chunk = object_of(event.data)
        if chunk.get("error") is not None:
            self.error = chunk["error"]
            return
        self._count(object_in(chunk, "usage"))
        choices = chunk.get("choices", [])
        if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
            raise Malformed("choices in an event of it is no list of objects")
        for choice in choices:
            if choice.get("index", 0) == 0:
                yield from self._choice(choice)

    def result(self) -> GenerateResult:
        """The result. Raises ``Malformed`` if the answer is not whole."""
        if not self._reason or not self.is_done:
            raise Malformed("it ended before its answer was whole")
        reason: FinishReason | None = _REASONS.get(self._reason)
        if self._reason == "content_filter":
            raise Refused(Fault(STATUS[FILTERED], FILTERED, "the provider's filter cut the answer off"))
        if reason is None:
            raise Malformed(f"it ended with the finish_reason {self._reason[:40]!r}")
        if reason == "tool_calls" and not self._gathered.calls:
            raise Malformed("it ended with the finish_reason 'tool_calls', and without one")
        return self._gathered.result(reason, self._stop_match, self._seed)

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Delta]:
        delta = object_in(choice, "delta")
        if reasoning := text_in(delta, "reasoning_content") or _reasoning_in(delta):
            yield from self._gathered.closing()
            yield self._gathered.reasoning(reasoning)
        if text := text_in(delta, "content") or text_in(delta, "refusal"):
            yield from self._gathered.closing()
            yield self._gathered.text(text)
        calls = delta.get("tool_calls") or []
        if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
            raise Malformed("tool_calls in an event of it is no list of objects")
        for call in calls:
            yield from self._call(call)
        if reason := text_in(choice, "finish_reason"):
            self._reason = reason
            # vLLM tells the stop string that ended the text; others do not tell any.
            if (match := choice.get("stop_reason")) in self._stop:
                self._stop_match = match
            if reason != "length":  # which may have cut the arguments off
                yield from self._gathered.closing()

    def _call(self, call: Mapping[str, Any]) -> Iterator[Delta]:
        index, function = count_in(call, "index"), object_in(call, "function")
        name = text_in(function, "name")
        # Some give every call of an answer the same index, and a new id to each.
        begins = index != self._index or (name and text_in(call, "id"))
        if begins:
            if not name:
                raise Malformed("a call of it has no name")
            yield from self._gathered.closing()
            self._index = index
            yield self._gathered.call(text_in(call, "id"), name)
        if arguments := text_in(function, "arguments"):
            yield self._gathered.arguments(arguments)

    def _count(self, usage: Mapping[str, Any]) -> None:
        if not usage:
            return
        counts = self._gathered.counts
        counts.prompt, counts.completion = count_in(usage, "prompt_tokens"), count_in(usage, "completion_tokens")
        cached = count_in(object_in(usage, "prompt_tokens_details"), "cached_tokens") or 0
        counts.cached = min(cached, counts.prompt or 0)
        counts.reasoning = count_in(object_in(usage, "completion_tokens_details"), "reasoning_tokens")


def _reasoning_in(delta: Mapping[str, Any]) -> str:
    """More reasoning under the name that some servers have for it, where it is a text."""
    value = delta.get("reasoning")
    return value if isinstance(value, str) else ""

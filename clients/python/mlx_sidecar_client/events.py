"""The events of a stream: more of its text, of its reasoning, or of the arguments of a tool call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .protocol.notifications import StreamDelta


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a tool call's ``arguments``, a fragment of JSON text. Calls are counted by ``index`` from 0."""

    index: int
    id: str
    name: str
    arguments: str


Event = TextDelta | ReasoningDelta | ToolCallDelta


class Channels:
    """The channels of a stream, as they have been delivered: its reasoning, and the id and name of each call."""

    def __init__(self) -> None:
        self._reasoning: list[str] = []
        self._heads: dict[int, tuple[str, str]] = {}

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    def add(self, delta: StreamDelta) -> None:
        """Take the next delta."""
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
        for call in delta.tool_calls or ():
            if call.id is not None and call.name is not None:
                self._heads[call.index] = call.id, call.name

    def events_of(self, delta: StreamDelta) -> Iterator[Event]:
        """The events of a delta that was added. Each fragment of a call has its id and name, which are sent once."""
        if delta.reasoning:
            yield ReasoningDelta(delta.reasoning)
        if delta.text:
            yield TextDelta(delta.text)
        for call in delta.tool_calls or ():
            if call.arguments:
                yield ToolCallDelta(call.index, *self._heads[call.index], call.arguments)

"""The events of an answer, the same for all surfaces, and the sidecar's deltas as such events.

An answer is any number of ``Delta`` events, and then exactly one end: a ``GenerateResult`` that is whole, or a
``Fault``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CUT_SHORT = frozenset({"length", "repeated"})  # finish reasons of an answer that a bound of its request ended
WHOLE = frozenset({"stop", "tool_calls"}) | CUT_SHORT  # those of one that came to its own end


@dataclass(slots=True)
class Text:
    """More of the answer's text, with the log probabilities of its tokens if they were asked for.

    They have the shape of the protocol's ``Logprob``. The text can be empty where they are not.
    """

    text: str
    logprobs: list[dict[str, Any]] | None = None


@dataclass(slots=True)
class Reasoning:
    """More of the reasoning."""

    text: str


@dataclass(slots=True)
class ToolStart:
    """A call of a tool begins; calls are counted by ``index`` from 0."""

    index: int
    id: str
    name: str


@dataclass(slots=True)
class ToolArguments:
    """A fragment of JSON text: more of the arguments of the call that began with this ``index``."""

    index: int
    arguments: str


Delta = Text | Reasoning | ToolStart | ToolArguments


def events_of(delta: Mapping[str, Any]) -> Sequence[Delta]:
    """The events of a ``stream/delta``, in the order in which the model wrote them."""
    calls, reasoning, text, logprobs = (
        delta.get("tool_calls"),
        delta.get("reasoning"),
        delta["text"],
        delta.get("logprobs"),
    )
    events: list[Delta] = []
    if reasoning:
        events.append(Reasoning(reasoning))
    elif text or (logprobs and not calls):
        events.append(Text(text, logprobs))
    for call in calls or ():
        if call.get("id") is not None:
            events.append(ToolStart(call["index"], call["id"], call["name"]))
        if arguments := call.get("arguments"):
            events.append(ToolArguments(call["index"], arguments))
    return events

"""The places of messages in a client's request, which may have more messages or items than the sidecar is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Place:
    """The ways to the parts of one message of the sidecar: to the message, its contents, its reasoning and its calls.

    ``members`` has the client's name of each member of a call that has another one.
    """

    way: str
    members: Mapping[str, str]
    content: str = ""
    reasoning: str = ""
    calls: list[str] = field(default_factory=list)

    def of(self, inner: Sequence[str]) -> str:
        """The client's way to ``inner``, which is the sidecar's way within its message."""
        match inner:
            case ["content", *_] if self.content:
                return self.content
            case ["reasoning_content", *_] if self.reasoning:
                return self.reasoning
            case ["tool_calls", number, *more] if number.isdecimal() and int(number) < len(self.calls):
                way = self.calls[int(number)]
                members = [self.members.get(name, name) for name in more if name != "function"]
                return ".".join([way, *members])
        return self.way


def way_of(path: Sequence[str], places: Sequence[Place], instead: str, *, before: int = 0) -> str | None:
    """The client's way to the sidecar's ``path``, if that leads into ``messages``; else None.

    places: Of the messages that the client gave, ``before`` which the sidecar was given others.
    instead: The way to any other message.
    """
    match path:
        case ["messages", number, *inner] if number.isdecimal():
            at = int(number) - before
            return places[at].of(inner) if 0 <= at < len(places) else instead
    return None

"""The places of messages and texts in a client's request, which has others than the sidecar is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mlx_sidecar_client import RpcError

from .surface import WayOf


class Placed(Exception):
    """An error of the sidecar, with the client's way to what is at fault. The core answers it."""

    def __init__(self, error: RpcError, way_of: WayOf) -> None:
        super().__init__(error.message)
        self.error, self.way_of = error, way_of


@contextmanager
def placed(way_of: WayOf) -> Iterator[None]:
    """Raise errors of the sidecar in the block as ``Placed``."""
    try:
        yield
    except RpcError as error:
        raise Placed(error, way_of) from error


def only_text(name: str) -> WayOf:
    """The ways of a request whose only text, the first of the sidecar's ``input``, is its parameter ``name``."""
    return lambda path: name if list(path[:2]) == ["input", "0"] else None


@dataclass
class Place:
    """The ways to the parts of one message of the sidecar: to the message, its contents, its reasoning and its calls.

    ``members`` has the client's name of each member of a call that has another one. ``texts`` has the ways to each text
    of the contents, where these are known.
    """

    way: str
    members: Mapping[str, str]
    content: str = ""
    reasoning: str = ""
    calls: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def of(self, inner: Sequence[str]) -> str:
        """The client's way to ``inner``, which is the sidecar's way within its message."""
        match inner:
            case ["content", number, *_] if number.isdecimal() and int(number) < len(self.texts):
                return self.texts[int(number)]
            case ["content"] if len(self.texts) == 1:
                return self.texts[0]
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

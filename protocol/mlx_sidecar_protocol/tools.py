"""Tools that an answer may call: which of them it must call, and calls as results and deltas carry them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from .model import Count, Label, Received, Sent
from .tagged import Untagged


class NamedTool(Received):
    """A tool by its name."""

    name: Label


ToolChoice = Annotated[
    Annotated[NamedTool, Tag("named")] | Annotated[Literal["auto", "none", "required"], Tag("mode")],
    Discriminator(lambda value: "named" if isinstance(value, dict | NamedTool) else "mode"),
    Untagged("auto, none, required or an object with a name"),
]


class ToolCall(Sent):
    """A whole call. ``arguments`` is the JSON text of one object, whatever the model's own format."""

    id: str
    name: str
    arguments: str

    def parsed(self) -> dict[str, Any]:
        """The object that ``arguments`` holds."""
        value: dict[str, Any] = json.loads(self.arguments)
        return value


class IncompleteToolCall(Sent):
    """A call that the answer's end cut off, or whose arguments could not be read on: ``text`` is what the model wrote.

    ``id`` and ``name`` are absent where the call had not got so far, and ``index`` where no delta told of it.
    """

    text: str
    index: Count | None = None
    id: str | None = None
    name: str | None = None


class ToolCallDelta(Sent):
    """More of the call with this ``index``: first its ``id`` and ``name``, then fragments of its ``arguments``."""

    index: Count
    id: str | None = None
    name: str | None = None
    arguments: str | None = Field(default=None, description="a fragment of JSON text")


def name_of(tool: dict[str, Any]) -> str | None:
    """The name of a tool as hosts describe it, in its ``function`` or in itself; None if it has none."""
    function = tool.get("function")
    name = (function if isinstance(function, dict) else tool).get("name")
    return name if isinstance(name, str) else None

"""Finds the parts of a chat that a template left out of its text, and warns of them.

Texts are searched in the rendered chat first. If one is not found, or is so short that it may stand there by chance,
the chat is rendered once more with a mark at both ends of every text. A text with neither mark in the result is one
that the template does not write. A text with a mark left was read: a template may trim it, cut it, or take the
reasoning out of it. ``reasoning_content`` is not searched, because templates drop that of earlier turns on purpose.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from mlx_sidecar_protocol.errors import RpcError

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message], Sequence[Mapping[str, Any]] | None], str]
Member = Literal["content", "name", "tool_calls", "tools"]

_TELLING_CHARACTERS = 16  # a shorter text may stand somewhere by chance
_NAMED = 5  # messages or tools in one warning
_DEPTH_LIMIT = 64  # of nested arguments that get marks

_WARNINGS: dict[Member, tuple[str, str]] = {
    "content": ("content_left_out", "the model's chat template leaves out text of {}"),
    "name": ("name_left_out", "the model's chat template leaves out the name of {}"),
    "tool_calls": ("tool_calls_left_out", "the model's chat template leaves out tool calls or their arguments of {}"),
    "tools": ("tools_left_out", "the model's chat template leaves out tools: {}"),
}


class RenderWarning(NamedTuple):
    """A warning about a chat that was rendered all the same."""

    kind: str
    message: str


class Place(NamedTuple):
    """A member of message ``number``, or tool ``number``."""

    member: Member
    number: int


class _Text(NamedTuple):
    place: Place
    text: str


def left_out(
    rendered: str, render: Render, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None
) -> tuple[RenderWarning, ...]:
    """Warnings for the parts of ``messages`` and ``tools`` missing in ``rendered``, which ``render`` made of them."""
    marks = _Marks(rendered)
    marked = marks.messages(messages), None if tools is None else marks.tools(tools)
    if _all_in_order(rendered, marks.texts):
        return ()
    try:
        shown = marks.found(render(*marked))
    except RpcError:  # the template refuses a text with marks in it
        shown = {
            number for number, each in enumerate(marks.texts) if any(form in rendered for form in _forms(each.text))
        }
    lost = sorted({each.place for number, each in enumerate(marks.texts) if number not in shown})
    return tuple(_warnings(lost, messages))


def named(messages: Sequence[Message], numbers: Sequence[int]) -> str:
    """The first few of the messages ``numbers`` with their roles, and the count of the others."""
    return _listed([f"messages[{number}] ({messages[number]['role']})" for number in numbers])


def _listed(places: Sequence[str]) -> str:
    more = [f"{len(places) - _NAMED} more"] if len(places) > _NAMED else []
    return ", ".join([*places[:_NAMED], *more])


class _Marks:
    """Copies of messages and tools with marks around their texts, and those texts by number."""

    def __init__(self, rendered: str) -> None:
        """The marks do not occur in ``rendered``, and are letters and digits, which filters and JSON leave alone."""
        self.texts: list[_Text] = []
        self._prefix = "zqm"
        while self._prefix in rendered.lower():
            self._prefix += "q"
        self._mark = re.compile(self._prefix + "([0-9]{1,9})z", re.IGNORECASE)

    def found(self, text: str) -> set[int]:
        return {int(number) for number in self._mark.findall(text)}

    def messages(self, messages: Sequence[Message]) -> list[Message]:
        return [self._message(message, number) for number, message in enumerate(messages)]

    def tools(self, tools: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [self._tool(tool, Place("tools", number)) for number, tool in enumerate(tools)]

    def _message(self, message: Message, number: int) -> Message:
        marked = dict(message)
        content = message.get("content")
        if isinstance(content, str):
            marked["content"] = self._around(content, Place("content", number))
        elif isinstance(content, list):
            marked["content"] = [
                {**part, "text": self._around(part["text"], Place("content", number))} for part in content
            ]
        if isinstance(name := message.get("name"), str) and message["role"] != "tool":
            marked["name"] = self._around(name, Place("name", number))
        if calls := message.get("tool_calls"):
            marked["tool_calls"] = [self._call(call, Place("tool_calls", number)) for call in calls]
        return marked

    def _call(self, call: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
        """``call`` with marks around the texts of its arguments, or around its name if there are none."""
        if isinstance(function := call.get("function"), Mapping):
            return {**call, "function": self._call(function, place)}
        before = len(self.texts)
        marked = {**call, "arguments": self._leaves(call.get("arguments"), place, _DEPTH_LIMIT)}
        if "arguments" not in call:
            del marked["arguments"]
        if len(self.texts) == before and isinstance(name := call.get("name"), str):
            marked["name"] = self._around(name, place)
        return marked

    def _leaves(self, value: Any, place: Place, depth: int) -> Any:
        if isinstance(value, str):
            return self._around(value, place)
        if depth and isinstance(value, Mapping):
            return {key: self._leaves(each, place, depth - 1) for key, each in value.items()}
        if depth and isinstance(value, list):
            return [self._leaves(each, place, depth - 1) for each in value]
        return value

    def _tool(self, tool: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
        if isinstance(function := tool.get("function"), Mapping):
            return {**tool, "function": self._tool(function, place)}
        if not isinstance(name := tool.get("name"), str) or not name.strip():
            return tool
        marked = {**tool, "name": self._around(name, place)}
        if isinstance(description := tool.get("description"), str) and len(description) >= _TELLING_CHARACTERS:
            self.texts[-1] = _Text(place, description)
        return marked

    def _around(self, text: str, place: Place) -> str:
        """``text`` between two marks, with its outer white space outside of them."""
        if not (core := text.strip()):
            return text
        mark = f"{self._prefix}{len(self.texts)}z"
        self.texts.append(_Text(place, core))
        before, _, after = text.partition(core)
        return f"{before}{mark}{core}{mark}{after}"


def _all_in_order(rendered: str, texts: Sequence[_Text]) -> bool:
    """Whether each text stands in ``rendered`` behind the one before it, and none is short enough for chance."""
    at = 0
    for _, text in sorted(texts, key=lambda each: each.place.member != "tools"):
        if len(text) < _TELLING_CHARACTERS:
            return False
        found = ((rendered.find(form, at), len(form)) for form in _forms(text))
        start, length = next((each for each in found if each[0] >= 0), (-1, 0))
        if start < 0:
            return False
        at = start + length
    return True


def _forms(text: str) -> Iterator[str]:
    """``text`` as it is, and as a template's ``tojson`` writes it."""
    yield text
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield json.dumps(text)[1:-1]


def _warnings(lost: Sequence[Place], messages: Sequence[Message]) -> Iterator[RenderWarning]:
    numbers: defaultdict[Member, list[int]] = defaultdict(list)
    for member, number in lost:
        numbers[member].append(number)
    for member, there in numbers.items():
        kind, sentence = _WARNINGS[member]
        places = _listed([f"tools[{number}]" for number in there]) if member == "tools" else named(messages, there)
        yield RenderWarning(kind, sentence.format(places))

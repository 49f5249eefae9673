"""Probes find out which messages a chat template reads: it renders small chats, whose texts are then searched for.

The template's source is not looked at. Each answer is found when it is first needed, and kept. A chat that the template
refuses gives no answer: then another chat is tried, and at last the answer is that of most templates. All probes
together render some thirty small chats, in 1 to 15 ms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple

from mlx_sidecar_protocol.errors import RpcError

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message], Sequence[Mapping[str, Any]] | None], str]

# Words that no template writes by itself; case is ignored in the search.
_WORD, _OTHER_WORD, _ROLE = "zqone", "zqtwo", "zqrole"
_ARGUMENTS: Final = {"zqkey": "zqvalue"}
_NESTED: Final = ({"zqin": "zqdeep"}, ["zqin", "zqdeep"])
_ARGUMENTS_TEXT = json.dumps(_ARGUMENTS)
_NAME, _ID = "zqcall", "zqid12345"  # some templates insist on ids of nine letters and digits
# Its name differs from the call's, to tell them apart in the text.
_TOOLS = [
    {
        "type": "function",
        "function": {"name": "zqtool", "description": "d", "parameters": {"type": "object", "properties": {}}},
    }
]
_SPOILED = re.compile(rf"text[\\\"']*\s*:\s*[\\\"']*{_WORD}|{_WORD}{_OTHER_WORD}")
_NOTHING = re.compile(r"\b(?:None|null|Undefined)\b")
# Stands for the content that is asked about.
_HOLE: Final = object()
_COMMON = ("system", "user", "assistant", "tool")
_ROLES_LIMIT = 64  # that are remembered: roles are what hosts make of them


class Kind(NamedTuple):
    """A kind of messages that a template treats alike: a role, with or without calls."""

    role: str
    calls: bool


class Reads(NamedTuple):
    """The contents that a template reads: strings, lists of several text parts, or only lists of one part."""

    strings: bool
    lists: bool
    one_part: bool = False


_STRINGS = Reads(strings=True, lists=False)

Arguments = Literal["object", "text", "any"]
# The forms of an empty content, since templates tell an absent member from null.
Empty = Literal["blank", "absent", "null"]
_EMPTY: tuple[Empty, ...] = ("blank", "absent", "null")


# How the contents beside the probed one are written.
Form = Callable[[str], Any]


def in_parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


_FORMS: tuple[Form, ...] = (str, in_parts)


class Probes:
    """The answers of one template."""

    def __init__(self, render: Render) -> None:
        """``render`` raises RpcError where the template refuses a chat."""
        self._render = render
        self._reads: dict[Kind, Reads] = {}
        self._known_roles: dict[str, bool] = {}

    def ask_for_common(self) -> None:
        """Find every answer that messages of the common roles need, with tool calls or without."""
        for kind in (*(Kind(role, calls=False) for role in _COMMON), Kind("assistant", calls=True)):
            self.reads(kind)
        self.knows_role("tool")
        _ = self.empty_contents, self.prints_nested  # kept, as ``arguments`` is, which both of them need

    def reads(self, kind: Kind) -> Reads:
        """The contents that the template reads in messages of this kind."""
        if kind not in self._reads:
            _forget(self._reads)
            found = (self._reads_among(context) for form in _FORMS for context in self._around(kind, form))
            self._reads[kind] = next(filter(any, found), _STRINGS)
        return self._reads[kind]

    def knows_role(self, role: str) -> bool:
        """Whether the template writes the name of ``role``, or treats it unlike an unknown role.

        True as well if the template refuses each small chat with the role, because then it will refuse the host's too.
        """
        if role not in self._known_roles:
            _forget(self._known_roles)
            found = (self._tells_apart(role, form) for form in _FORMS)
            self._known_roles[role] = next((known for known in found if known is not None), True)
        return self._known_roles[role]

    @cached_property
    def arguments(self) -> Arguments:
        """The form in which the template takes the arguments of a call: an object, or JSON text.

        An object if it takes both, because then the text does not depend on how the host wrote its JSON. "any" for a
        template that writes neither.
        """
        if any(_shows_object(text) for text in self._with_call(_ARGUMENTS)):
            return "object"
        return "text" if any(_ARGUMENTS_TEXT in text for text in self._with_call(_ARGUMENTS_TEXT)) else "any"

    @cached_property
    def prints_nested(self) -> tuple[type, ...]:
        """Types of nested values in arguments that must be given as JSON text: the template prints them as Python does.

        A template that puts quotation marks around such a text is left out, because it writes Python on purpose.
        """
        return tuple(type(value) for value in _NESTED if self.arguments == "object" and self._prints(value))

    def _prints(self, value: Any) -> bool:
        printed = any(repr(value) in text for text in self._with_call({**_ARGUMENTS, "zqmore": value}))
        as_text = json.dumps(value)
        bare = re.compile(r"""(?<!['"])""" + re.escape(as_text))
        return printed and any(bare.search(text) for text in self._with_call({**_ARGUMENTS, "zqmore": as_text}))

    @cached_property
    def empty_contents(self) -> Sequence[Empty]:
        """Empty contents with which the template writes the calls of a message, at least one, the best first.

        The best one adds least to the text: neither ``None`` nor an empty turn.
        """
        for form in _FORMS:
            texts: dict[Empty, str] = {}
            for empty in _EMPTY:
                if _shows_call(text := self._text([_user(form), self._call(empty), _result(form)])):
                    texts[empty] = text
            if texts:
                fewest = min(map(_nothings, texts.values()))
                best: list[Empty] = [empty for empty, text in texts.items() if _nothings(text) == fewest]
                return sorted(best, key=lambda empty: len(texts[empty]))
        return ("blank",)

    def _call(self, empty: Empty) -> Message:
        return _call(_ARGUMENTS_TEXT if self.arguments == "text" else _ARGUMENTS, empty)

    def _with_call(self, arguments: Any) -> Iterator[str]:
        for form in _FORMS:
            for empty in _EMPTY:
                if text := self._text([_user(form), _call(arguments, empty), _result(form)]):
                    yield text

    def _around(self, kind: Kind, form: Form) -> Iterator[Sequence[Message]]:
        """Chats with messages of ``kind`` at places where a template may expect them, with ``_HOLE`` as content."""
        asked: Message = {"role": kind.role, "content": _HOLE}
        first, last = [asked, _user(form)], [_user(form), asked]
        if kind.calls:
            asked = {**self._call("blank"), **asked}
            yield from ([_user(form), asked, _result(form)], [_user(form), asked])
        elif kind.role == "tool":
            yield [_user(form), self._call(self.empty_contents[0]), {**_result(form), **asked}]
        elif kind.role == "user":
            yield from ([asked, {"role": "assistant", "content": form("hi")}, asked], [asked])
        elif kind.role == "assistant":
            yield from ([_user(form), asked, _user(form)], last)
        else:
            yield from (first, last) if kind.role in ("system", "developer") else (last, first)

    def _reads_among(self, chat: Sequence[Message]) -> Reads:
        strings = self._shows(chat, _WORD, _WORD)
        lists = self._shows(chat, in_parts(f"{_WORD} ", _OTHER_WORD), _WORD, _OTHER_WORD)
        return Reads(strings, lists, not (strings or lists) and self._shows(chat, in_parts(_WORD), _WORD))

    def _shows(self, chat: Sequence[Message], content: Any, *words: str) -> bool:
        """Whether each of ``words`` is written at least once for each hole that ``content`` fills.

        False if a list is printed as a whole, or if trimming its parts joined two words into one.
        """
        holes = sum(message.get("content") is _HOLE for message in chat)
        text = self._text(_filled(chat, content)).lower()
        return all(text.count(word) >= holes for word in words) and not _SPOILED.search(text)

    def _tells_apart(self, role: str, form: Form) -> bool | None:
        """Whether ``role`` is written differently from a made-up role; None if no chat can be rendered."""
        for chat in self._around(Kind(role, calls=False), form):
            chat = _filled(chat, form(_WORD))
            if _WORD not in (text := self._text(chat)).lower():
                continue
            unknown = self._text([{**each, "role": _ROLE} if each["role"] == role else each for each in chat])
            return unknown != text or _ROLE in unknown.lower()
        return None

    def _text(self, chat: Sequence[Message]) -> str:
        """The chat as the template writes it, with tools if it has calls; empty if the template refuses it."""
        for tools in (_TOOLS, None) if any("tool_calls" in message for message in chat) else (None,):
            try:
                return self._render(chat, tools)
            except RpcError:
                continue
        return ""


def _user(form: Form) -> Message:
    return {"role": "user", "content": form("hi")}


def _call(arguments: Any, empty: Empty) -> Message:
    call = {"id": _ID, "type": "function", "function": {"name": _NAME, "arguments": arguments}}
    content: Message = {} if empty == "absent" else {"content": None if empty == "null" else ""}
    return {"role": "assistant", **content, "tool_calls": [call]}


def _result(form: Form) -> Message:
    return {"role": "tool", "name": _NAME, "tool_call_id": _ID, "content": form("hi")}


def _filled(chat: Sequence[Message], content: Any) -> list[Message]:
    return [{**message, "content": content} if message.get("content") is _HOLE else message for message in chat]


def _shows_object(text: str) -> bool:
    return _shows_call(text) and str(_ARGUMENTS) not in text


def _shows_call(text: str) -> bool:
    return all(word in text.lower() for pair in _ARGUMENTS.items() for word in pair)


def _nothings(text: str) -> int:
    """The number of words such as ``None`` in ``text``."""
    return len(_NOTHING.findall(text))


def _forget(known: dict[Any, Any]) -> None:
    if len(known) >= _ROLES_LIMIT:
        known.clear()

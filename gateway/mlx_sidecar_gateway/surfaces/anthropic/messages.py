"""The chat of a request: Anthropic's messages of blocks as messages that chat templates read."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from ..faults import Refused
from ..members import Members
from ..places import Place
from .parameters import BLOCKS, MESSAGE, REFUSED_BLOCKS

Message = dict[str, Any]

_MEMBERS: Final = {"arguments": "input"}  # of calls, where the sidecar has another name

ATTRIBUTION = "x-anthropic-billing-header:"
"""The beginning of a block that coding agents put before their system prompt. It names their version, and so changes
the prompt's first tokens with every release."""


def chat_of(body: Members, *, keep_attribution: bool) -> Chat:
    """The chat of ``body``, its system prompt first. Raises ``Refused`` naming the block at fault."""
    messages = body.objects("messages")
    if not messages:
        raise Refused.parameter(body.place("messages"), "is needed, with at least one message")
    chat = Chat()
    if "system" in body:
        texts = [text for text in _texts(body, "system") if keep_attribution or not text.said.startswith(ATTRIBUTION)]
        if texts:
            chat.add("system", Place("system", _MEMBERS, "system"), texts)
    last_user = max((number for number, each in enumerate(messages) if each.value("role") == "user"), default=-1)
    for number, message in enumerate(messages):
        role = message.has("role", *_READERS)
        message.within(MESSAGE[role])
        if not _is_cleared(message, behind_it_is_a_user=number < last_user):
            _READERS[role](chat, message)
    if chat.is_begun_answer:
        raise Refused.parameter(messages[-1].place("role"), "an answer cannot be begun for the model here")
    return chat


class _Text(NamedTuple):
    """A text of the request, and the way to it."""

    said: str
    place: str


class Chat:
    """Messages in the making. Turns of one role that follow each other are one.

    places: Of the messages in the request; of several turns the first one's.
    """

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.names: dict[str, str] = {}  # of the tools that were called, by the call's id
        self._messages: list[Message] = []  # contents are lists of texts

    @property
    def messages(self) -> list[Message]:
        """All messages, with a content that is one string where it can be."""
        return [_plain(message) for message in self._messages]

    @property
    def is_begun_answer(self) -> bool:
        """Whether the assistant's turn is the last one."""
        return bool(self._messages) and self._messages[-1]["role"] == "assistant"

    def add(self, role: str, place: Place, texts: list[_Text]) -> Message:
        """Add texts to the turn of ``role``, which begins at ``place`` unless it is the last one."""
        if not self._messages or self._messages[-1]["role"] != role:
            self._add({"role": role, "content": []}, place)
        self._messages[-1]["content"] += [text.said for text in texts]
        self.places[-1].texts += [text.place for text in texts]
        return self._messages[-1]

    def add_call(self, turn: Message, id_: str, name: str, arguments: str, way: str) -> None:
        """Add a call of a tool to the last turn."""
        self.names[id_] = name
        function = {"name": name, "arguments": arguments}
        turn.setdefault("tool_calls", []).append({"id": id_, "type": "function", "function": function})
        self.places[-1].calls.append(way)

    def add_result(self, call: Members) -> None:
        """Add the result of a call as a message of its own."""
        id_ = call.text("tool_use_id")
        if id_ not in self.names:
            raise Refused.parameter(call.place("tool_use_id"), f"no tool_use before it has the id {id_!r}")
        message: Message = {"role": "tool", "tool_call_id": id_, "name": self.names[id_]}
        if call.boolean("is_error", False):
            message["is_error"] = True
        texts = _result(call) if "content" in call else []
        place = Place(call.way, _MEMBERS, call.place("content"), texts=[text.place for text in texts])
        self._add({**message, "content": [text.said for text in texts]}, place)

    def _add(self, message: Message, place: Place) -> None:
        self._messages.append(message)
        self.places.append(place)


def found_tools(body: Members) -> dict[str, str]:
    """The tools that results of the client's own search name, each with the place; ``chat_of`` has checked them."""
    messages = [message for message in body.objects("messages") if isinstance(message.value("content"), list)]
    blocks = [block for message in messages for block in message.objects("content")]
    results = [block for block in blocks if isinstance(block.value("content"), list)]
    found = [block for result in results for block in result.objects("content") if "tool_name" in block]
    return {block.text("tool_name"): block.place("tool_name") for block in found}


def _is_cleared(message: Members, *, behind_it_is_a_user: bool) -> bool:
    """Whether a system message is no longer shown to the model."""
    if "clear_at" not in message:
        return False
    return message.has("clear_at", "next_user_message", "never") == "next_user_message" and behind_it_is_a_user


def _user(chat: Chat, message: Members) -> None:
    if isinstance(message.value("content"), str):
        chat.add("user", _place(message), _texts(message, "content"))
        return
    for block in _blocks(message, "text", "tool_result"):
        if block.text("type") == "text":
            chat.add("user", _place(message), [_text(block, "text")])
        else:
            chat.add_result(block)


def _assistant(chat: Chat, message: Members) -> None:
    place = _place(message)
    if isinstance(message.value("content"), str):
        chat.add("assistant", place, _texts(message, "content"))
        return
    turn = chat.add("assistant", place, [])
    for block in _blocks(message, "text", "thinking", "tool_use"):
        match block.text("type"):
            case "text":
                chat.add("assistant", place, [_text(block, "text")])
            case "thinking":
                turn["reasoning_content"] = turn.get("reasoning_content", "") + block.text("thinking")
                chat.places[-1].reasoning = chat.places[-1].reasoning or block.place("thinking")
            case _:
                _call(chat, turn, block)


def _call(chat: Chat, turn: Message, block: Members) -> None:
    if "caller" in block:
        Members(block.value("caller"), block.place("caller")).has("type", "direct")
    arguments = orjson.dumps(block.object("input")).decode()
    chat.add_call(turn, block.text("id"), block.text("name"), arguments, block.way)


def _system(chat: Chat, message: Members) -> None:
    chat.add("system", _place(message), _texts(message, "content"))


def _place(message: Members) -> Place:
    return Place(message.way, _MEMBERS, message.place("content"))


_READERS = {"user": _user, "assistant": _assistant, "system": _system}


def _text(members: Members, name: str) -> _Text:
    return _Text(members.text(name), members.place(name))


def _texts(members: Members, name: str) -> list[_Text]:
    """A string, or the texts of a list of blocks."""
    if isinstance(members.value(name), str):
        return [_text(members, name)]
    return [_text(block, "text") for block in _blocks(members, "text", name=name)]


def _result(call: Members) -> list[_Text]:
    """The texts of a tool's result, one of them for each tool that it has found."""
    if isinstance(call.value("content"), str):
        return [_text(call, "content")]
    return [
        _Text(f"The tool {block.text('tool_name')} can be called now.", block.place("tool_name"))
        if "tool_name" in block
        else _text(block, "text")
        for block in _blocks(call, "text", "tool_reference")
    ]


def _blocks(members: Members, *types: str, name: str = "content") -> list[Members]:
    """The blocks of a list, each of one of ``types``."""
    blocks = members.objects(name)
    if not blocks:
        raise Refused.parameter(members.place(name), "must be a string, or a list of at least one block")
    for block in blocks:
        type_ = block.text("type")
        if type_ not in BLOCKS:
            because = REFUSED_BLOCKS.get(type_, f"blocks of type {type_} are not understood here")
            raise Refused.parameter(block.way, because, "unsupported_parameter")
        if type_ not in types:
            raise Refused.parameter(block.way, f"a block of type {type_} cannot stand here")
        block.within(BLOCKS[type_])
    return blocks


def _plain(message: Message) -> Message:
    """The message with its content as a string, where it is one text, or as parts."""
    texts = message["content"]
    if not texts and "tool_calls" in message:
        return {**message, "content": None}
    content = [{"type": "text", "text": text} for text in texts] if len(texts) > 1 else "".join(texts)
    return {**message, "content": content}

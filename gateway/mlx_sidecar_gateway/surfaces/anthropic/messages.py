"""The chat of a request: Anthropic's messages of blocks as messages that chat templates read."""

from __future__ import annotations

from typing import Any

import orjson

from ..faults import Refused
from ..members import Members
from .parameters import BLOCKS, MESSAGE, REFUSED_BLOCKS

Message = dict[str, Any]

ATTRIBUTION = "x-anthropic-billing-header:"
"""The beginning of a block that coding agents put before their system prompt. It names their version, and so changes
the prompt's first tokens with every release."""


def chat_of(body: Members, *, keep_attribution: bool) -> list[Message]:
    """The messages of ``body``, its system prompt first. Raises ``Refused`` naming the block at fault."""
    messages = body.objects("messages")
    if not messages:
        raise Refused.parameter(body.place("messages"), "is needed, with at least one message")
    chat = _Chat()
    if "system" in body:
        texts = [text for text in _texts(body, "system") if keep_attribution or not text.startswith(ATTRIBUTION)]
        if texts:
            chat.add("system", texts)
    last_user = max((number for number, each in enumerate(messages) if each.value("role") == "user"), default=-1)
    for number, message in enumerate(messages):
        role = message.has("role", *_READERS)
        message.within(MESSAGE[role])
        if not _is_cleared(message, behind_it_is_a_user=number < last_user):
            _READERS[role](chat, message)
    if chat.messages[-1]["role"] == "assistant":
        raise Refused.parameter(messages[-1].place("role"), "an answer cannot be begun for the model here")
    return [_plain(message) for message in chat.messages]


class _Chat:
    """Messages in the making; contents are lists of texts. Turns of one role that follow each other are one."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.names: dict[str, str] = {}  # of the tools that were called, by the call's id

    def add(self, role: str, texts: list[str]) -> Message:
        """Add texts to the turn of ``role``, which begins here unless it is the last one."""
        if not self.messages or self.messages[-1]["role"] != role:
            self.messages.append({"role": role, "content": []})
        self.messages[-1]["content"] += texts
        return self.messages[-1]

    def add_result(self, call: Members) -> None:
        """Add the result of a call as a message of its own."""
        id_ = call.text("tool_use_id")
        if id_ not in self.names:
            raise Refused.parameter(call.place("tool_use_id"), f"no tool_use before it has the id {id_!r}")
        message: Message = {"role": "tool", "tool_call_id": id_, "name": self.names[id_]}
        if call.boolean("is_error", False):
            message["is_error"] = True
        self.messages.append({**message, "content": _result(call) if "content" in call else []})


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


def _user(chat: _Chat, message: Members) -> None:
    if isinstance(message.value("content"), str):
        chat.add("user", [message.text("content")])
        return
    for block in _blocks(message, "text", "tool_result"):
        if block.text("type") == "text":
            chat.add("user", [block.text("text")])
        else:
            chat.add_result(block)


def _assistant(chat: _Chat, message: Members) -> None:
    turn = chat.add("assistant", [])
    if isinstance(message.value("content"), str):
        turn["content"].append(message.text("content"))
        return
    for block in _blocks(message, "text", "thinking", "tool_use"):
        match block.text("type"):
            case "text":
                turn["content"].append(block.text("text"))
            case "thinking":
                turn["reasoning_content"] = turn.get("reasoning_content", "") + block.text("thinking")
            case _:
                turn.setdefault("tool_calls", []).append(_call(chat, block))


def _call(chat: _Chat, block: Members) -> dict[str, Any]:
    if "caller" in block:
        Members(block.value("caller"), block.place("caller")).has("type", "direct")
    id_, name = block.text("id"), block.text("name")
    chat.names[id_] = name
    arguments = orjson.dumps(block.object("input")).decode()
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def _system(chat: _Chat, message: Members) -> None:
    chat.add("system", _texts(message, "content"))


_READERS = {"user": _user, "assistant": _assistant, "system": _system}


def _texts(members: Members, name: str) -> list[str]:
    """A string, or the texts of a list of blocks."""
    if isinstance(members.value(name), str):
        return [members.text(name)]
    return [block.text("text") for block in _blocks(members, "text", name=name)]


def _result(call: Members) -> list[str]:
    """The texts of a tool's result, one of them for each tool that it has found."""
    if isinstance(call.value("content"), str):
        return [call.text("content")]
    return [
        f"The tool {block.text('tool_name')} can be called now." if "tool_name" in block else block.text("text")
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

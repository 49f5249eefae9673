"""The chat of a request: Ollama's messages as messages that chat templates read."""

from __future__ import annotations

from typing import Any

import orjson

from ..faults import Refused
from ..members import Members
from .parameters import CALL, MESSAGE

Message = dict[str, Any]


def chat_of(body: Members) -> list[Message]:
    """The messages of ``body``. Raises ``Refused`` naming the member at fault."""
    calls = _Calls()
    chat = [_message(message, calls) for message in body.objects("messages")]
    if chat and chat[-1]["role"] == "assistant":
        place = f"messages.{len(chat) - 1}.role"
        raise Refused.parameter(place, "an answer cannot be begun for the model here")
    return chat


class _Calls:
    """The calls of a chat. Ollama's clients need not say which call a result belongs to."""

    def __init__(self) -> None:
        self._count = 0
        self._open: list[tuple[str, str]] = []  # ids and names of those that have no result yet

    def add(self, id_: str, name: str) -> str:
        """Add a call; the id that it has from now on."""
        id_ = id_ or f"call{self._count:05}"  # some templates want nine letters and digits
        self._count += 1
        self._open.append((id_, name))
        return id_

    def answered(self, id_: str, name: str) -> tuple[str, str]:
        """Id and name of the call whose result has come: of the first open one that fits what is known of it."""
        for call in self._open:
            if id_ in ("", call[0]) and name in ("", call[1]):
                self._open.remove(call)
                return call
        return id_, name


def _message(given: Members, calls: _Calls) -> Message:
    given.within(MESSAGE)
    if given.value("images"):
        raise Refused.parameter(given.place("images"), "images are not understood yet", "unsupported_parameter")
    message: Message = {"role": given.text("role"), "content": given.text("content", "")}
    name = given.text("tool_name", given.text("name", ""))
    told = {"reasoning_content": given.text("thinking", ""), "name": name}
    if called := given.objects("tool_calls"):
        message["tool_calls"] = [_call(call, calls) for call in called]
    if message["role"] == "tool":
        told["tool_call_id"], told["name"] = calls.answered(given.text("tool_call_id", ""), name)
    return message | {member: value for member, value in told.items() if value}


def _call(call: Members, calls: _Calls) -> dict[str, Any]:
    call.within(CALL)
    function = Members(call.object("function"), call.place("function"))
    name = function.text("name")
    arguments = orjson.dumps(function.object("arguments", {})).decode()
    id_ = calls.add(call.text("id", ""), name)
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}

"""Brings messages into the shape that a chat template reads.

Hosts send messages as OpenAI's API defines them: ``content`` as a string, a list of text parts or null, and the
``arguments`` of a call as JSON text. Calls may also be those of a result, with name and arguments in themselves. A
template reads some of these forms and spoils the others: it prints a list as Python does, encodes JSON text as JSON
again, or leaves a text out. ``probes`` finds the forms that it reads by rendering small chats, once for each kind of
message. If the template refuses all of them, contents are passed as strings and calls as they came, because most
templates read these.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from mlx_sidecar_protocol.strings import has_surrogates

from .left_out import RenderWarning, named
from .probes import Kind, Message, Probes, Reads, Render, in_parts

# Not probed: a template writes or refuses these, and its last ``else`` may stand for one of them.
_COMMON_ROLES = ("system", "user", "assistant")


class MessageShapes:
    """Brings messages into the shape that one template reads."""

    def __init__(self, render: Render) -> None:
        """``render`` makes a text of messages and tools exactly as they are, or raises RpcError."""
        self._probes = Probes(render)

    def probe(self) -> None:
        """Ask now what ``shaped`` would ask for the messages that most chats consist of."""
        self._probes.ask_for_common()

    def shaped(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """``messages`` in the template's form. Members that are null are left out, because hosts mean null so."""
        return [self._shaped(message) for message in messages]

    def unknown_roles(self, messages: Sequence[Message]) -> Iterator[RenderWarning]:
        """A warning for roles that the template writes like any unknown role, without their name."""
        first = {message["role"]: number for number, message in reversed(list(enumerate(messages)))}
        asked = {number: role for role, number in first.items() if role not in _COMMON_ROLES}
        unknown = sorted(number for number, role in asked.items() if not self._probes.knows_role(role))
        if unknown:
            because = f"the model's chat template does not know the role of {named(messages, unknown)}"
            yield RenderWarning("role_unknown", because)

    def _shaped(self, message: Message) -> dict[str, Any]:
        plain = {name: value for name, value in message.items() if value is not None}
        content = plain.pop("content", None)
        calls = plain.pop("tool_calls", None)
        shaped = {"role": plain.pop("role"), "content": content, **plain}
        if calls:
            shaped["tool_calls"] = [_with_arguments(_nested(call), self._arguments) for call in calls]
        if calls and not _text(content):
            return self._without_content(shaped, content)
        reads = self._probes.reads(Kind(message["role"], bool(calls)))
        shaped["content"] = _content("" if content is None else content, reads)
        return shaped

    def _arguments(self, given: Any) -> Any:
        """Arguments in the template's form: an object, or JSON text."""
        wanted = self._probes.arguments
        if wanted == "text" and isinstance(given, Mapping | list):
            return _as_json(given)
        if wanted == "object" and isinstance(given, str):
            given = _parsed(given)
        if not isinstance(given, Mapping) or not (printed := self._probes.prints_nested):
            return given
        return {key: _as_json(value) if isinstance(value, printed) else value for key, value in given.items()}

    def _without_content(self, message: dict[str, Any], given: Any) -> dict[str, Any]:
        """A message that only calls tools, with the empty content under which the template writes its calls."""
        choices = self._probes.empty_contents
        empty = "blank" if given is not None and "blank" in choices else choices[0]
        message["content"] = None if empty == "null" else ""
        if empty == "absent":
            del message["content"]
        return message


def _text(content: Any) -> str:
    """All text of a content: a string, a list of parts, or None."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return content or ""


def _content(content: Any, reads: Reads) -> Any:
    if reads.lists and isinstance(content, list) and not (reads.strings and len(content) == 1):
        return content
    text = _text(content)  # a list of one part means the same as a string
    return text if reads.strings else in_parts(text) if reads.lists or reads.one_part else text


def _nested(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """``call`` as most templates read it: a result's, which has its name in itself, gets a ``function`` around that."""
    if "name" not in call or "function" in call:
        return call
    function = {name: call[name] for name in ("name", "arguments") if name in call}
    rest = {name: value for name, value in call.items() if name not in function}
    return {"type": "function", **rest, "function": function}


def _with_arguments(call: Mapping[str, Any], change: Callable[[Any], Any]) -> Mapping[str, Any]:
    """``call`` with its arguments changed; they may stand in its ``function`` or in itself."""
    if isinstance(function := call.get("function"), Mapping):
        return {**call, "function": _with_arguments(function, change)}
    return {**call, "arguments": change(call["arguments"])} if "arguments" in call else call


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _parsed(text: str) -> Any:
    """The object that ``text`` is in JSON, else ``text``. Empty text is an empty object, because hosts write it so."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) and not has_surrogates(value) else text


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(digits)
    return number


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)

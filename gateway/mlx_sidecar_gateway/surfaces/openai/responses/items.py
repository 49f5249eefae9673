"""The input of a request: items as pieces of a chat, and these as messages that chat templates read.

Items are checked one by one when the request is read. They become messages later, because an item may refer to one of a
response that is kept, and the result of a call has the name of a tool that was called before.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ...faults import Refused
from ...members import Members
from ...places import Place
from .parameters import ITEMS, PARTS, REFUSED_ITEMS, REFUSED_PARTS

Message = dict[str, Any]

_SEALED: Final = "mlx-sidecar."
"""The beginning of ``encrypted_content`` of this gateway; behind it stands the reasoning, in base64."""

_MEMBERS: Final = {"id": "call_id"}  # of calls, where the sidecar has another name

_ROLES: Final = {"developer": "system"}  # templates know no developer


@dataclass(frozen=True)
class Said:
    """Texts of one role."""

    role: str
    texts: list[str]
    place: str = field(default="", compare=False)


@dataclass(frozen=True)
class Thought:
    """Reasoning of the assistant."""

    text: str
    place: str = field(default="", compare=False)


@dataclass(frozen=True)
class Called:
    """A call of a tool; ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str
    place: str = field(default="", compare=False)


@dataclass(frozen=True)
class Returned:
    """The result of a call. ``place`` leads to the item."""

    id: str
    name: str | None
    texts: list[str]
    place: str


@dataclass(frozen=True)
class Referenced:
    """An item of a response that is kept."""

    id: str
    place: str


Piece = Said | Thought | Called | Returned | Referenced


# From items to pieces.


def pieces_of(body: Members) -> list[Piece]:
    """The pieces of ``input``. Raises ``Refused`` naming the item at fault."""
    if isinstance(body.value("input"), str):
        return [Said("user", [body.text("input")], "input")]
    return [piece_of(item) for item in body.objects("input")]


def piece_of(item: Members) -> Piece:
    """The piece that an item is. Raises ``Refused``."""
    type_ = _type_of(item)
    if type_ not in ITEMS:
        because = REFUSED_ITEMS.get(type_, f"items of type {type_!r} are not known here")
        raise Refused.parameter(item.way, because, "unsupported_parameter")
    item.within(ITEMS[type_])
    if "caller" in item:
        Members(item.value("caller"), item.place("caller")).has("type", "direct")
    return _READERS[type_](item)


def _type_of(item: Members) -> str:
    """The type of an item; messages and references may have none."""
    return item.text("type", "message" if "role" in item else "item_reference")


def _message(item: Members) -> Piece:
    role = item.has("role", "user", "assistant", "system", "developer")
    allowed = ("output_text", "refusal", "input_text") if role == "assistant" else ("input_text", "output_text")
    return Said(_ROLES.get(role, role), _texts(item, "content", *allowed), item.way)


def _reasoning(item: Members) -> Piece:
    if texts := [_text(part, "reasoning_text") for part in item.objects("content")]:
        return Thought("".join(texts), item.way)
    if "encrypted_content" in item:
        return Thought(_unsealed(item), item.way)
    return Thought("\n\n".join(_text(part, "summary_text") for part in item.objects("summary")), item.way)


def _call(item: Members) -> Piece:
    return Called(item.text("call_id"), item.text("name"), item.text("arguments"), item.way)


def _result(item: Members) -> Piece:
    name = item.text("name") if "name" in item else None
    return Returned(item.text("call_id"), name, _texts(item, "output", "input_text"), item.way)


def _reference(item: Members) -> Piece:
    return Referenced(item.text("id"), item.way)


_READERS: Final[Mapping[str, Callable[[Members], Piece]]] = {
    "message": _message,
    "reasoning": _reasoning,
    "function_call": _call,
    "function_call_output": _result,
    "item_reference": _reference,
}


def _texts(item: Members, name: str, *types: str) -> list[str]:
    """A string, or the texts of a list of parts."""
    if isinstance(item.value(name), str):
        return [item.text(name)]
    if not isinstance(item.value(name), list):
        raise Refused.parameter(item.place(name), "must be a string or a list of parts")
    return [_text(part, *types) for part in item.objects(name)]


def _text(part: Members, *types: str) -> str:
    type_ = part.text("type")
    if type_ in REFUSED_PARTS:
        raise Refused.parameter(part.place("type"), REFUSED_PARTS[type_], "unsupported_parameter")
    part.has("type", *types)
    part.within(PARTS[type_])
    return part.text("refusal" if type_ == "refusal" else "text")


# Reasoning that clients carry without looking into it.


def sealed(reasoning: str) -> str:
    """The ``encrypted_content`` of a reasoning item. It is encoded and not encrypted: the text is the client's own."""
    return _SEALED + b64encode(reasoning.encode()).decode()


def _unsealed(item: Members) -> str:
    content = item.text("encrypted_content")
    try:
        if content.startswith(_SEALED):
            return b64decode(content.removeprefix(_SEALED), validate=True).decode()
    except (NoBase64, UnicodeDecodeError):
        pass
    raise Refused.parameter(item.place("encrypted_content"), "it is not from this gateway", "unsupported_parameter")


# From pieces to messages.


class Chat:
    """Messages in the making. What the assistant thinks, says and calls in a row is one message.

    names: Of the tools that were called, by the call's id.
    places: Of the messages in the request.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)
        self.places: list[Place] = []
        self._messages: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """All messages, with a content that is one string where it can be."""
        return [_plain(message) for message in self._messages]

    def extend(self, pieces: Iterable[Piece]) -> None:
        """Add pieces, none of which refers to another item. Raises ``Refused``."""
        for piece in pieces:
            match piece:
                case Said("assistant", texts, way):
                    self._assistant(way)["content"] += texts
                    self.places[-1].content = self.places[-1].content or _content(way)
                case Said(role, texts, way):
                    self._add({"role": role, "content": texts}, Place(way, _MEMBERS, _content(way)))
                case Thought(""):
                    pass
                case Thought(text, way):
                    turn = self._assistant(way)
                    turn["reasoning_content"] = turn.get("reasoning_content", "") + text
                    self.places[-1].reasoning = self.places[-1].reasoning or way
                case Called():
                    self._called(piece)
                case Returned():
                    self._returned(piece)
                case Referenced():
                    raise AssertionError("references are resolved before")

    def _add(self, message: Message, place: Place) -> None:
        self._messages.append(message)
        self.places.append(place)

    def _assistant(self, way: str) -> Message:
        if not self._messages or self._messages[-1]["role"] != "assistant":
            self._add({"role": "assistant", "content": []}, Place(way, _MEMBERS))
        return self._messages[-1]

    def _called(self, call: Called) -> None:
        function = {"name": call.name, "arguments": call.arguments}
        turn = self._assistant(call.place)
        turn.setdefault("tool_calls", []).append({"id": call.id, "type": "function", "function": function})
        self.places[-1].calls.append(call.place)
        self.names[call.id] = call.name

    def _returned(self, result: Returned) -> None:
        if result.id not in self.names:
            because = f"no function_call before it has the call_id {result.id!r}"
            raise Refused.parameter(f"{result.place}.call_id", because)
        name = result.name or self.names[result.id]
        message = {"role": "tool", "tool_call_id": result.id, "name": name, "content": result.texts}
        self._add(message, Place(result.place, _MEMBERS, f"{result.place}.output"))


def _content(way: str) -> str:
    """The way to what a message says; a request may be one text instead."""
    return way if way == "input" else f"{way}.content"


def leading(pieces: Sequence[Piece]) -> int:
    """The number of system messages that ``pieces`` begin with; 0 if there is nothing else."""
    for number, piece in enumerate(pieces):
        if not (isinstance(piece, Said) and piece.role == "system"):
            return number
    return 0


def system_message(texts: Sequence[str]) -> list[Message]:
    """One system message of all ``texts``, because many templates take only one, at the beginning; none without any."""
    return [{"role": "system", "content": "\n\n".join(texts)}] if texts else []


def _plain(message: Message) -> Message:
    texts = message["content"]
    if not texts and "tool_calls" in message:
        return {**message, "content": None}
    content = [{"type": "text", "text": text} for text in texts] if len(texts) > 1 else "".join(texts)
    return {**message, "content": content}

"""Readers of calls that are JSON: the model's own text of the arguments is passed on while it is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Final

from ..formats.tool_format import JsonArguments, JsonObject
from .json_scan import JsonScan
from .open_call import OpenCall, read_name
from .source import NotACall, Reading, Source

_ID_CHARACTERS: Final = 256
_INDEXED = re.compile(r"(?:functions\.)?(.+?)(?::[0-9]+)?")


def pass_value(source: Source, write: Callable[[str], None]) -> Reading[None]:
    """Read a value and ``write`` it as it comes, with white space before it. Raises NotACall where it is no JSON."""
    scan = JsonScan()
    while not scan.done:
        yield from source.next()
        write(source.take(scan.scan(source.text, source.at)))
        if scan.error is not None:
            raise NotACall(scan.error)


def read_value(source: Source) -> Reading[str]:
    """Read a value: its text."""
    parts: list[str] = []
    yield from pass_value(source, parts.append)
    return "".join(parts)


def pass_object(source: Source, call: OpenCall) -> Reading[None]:
    """Read the arguments of ``call``, whose name is known, and tell them as they come."""
    if (yield from source.skip_space()) != "{":
        raise NotACall("its arguments are no JSON object")
    yield from pass_value(source, call.write)
    call.complete = True


class ObjectReader:
    """Reads a call that is one JSON object, from its brace on. ``closings``: texts that stand behind the call.

    ``strict``: the object may be no call at all, and is taken for none if another value than a text, or the arguments,
    stands before the name: so little is held back.
    """

    def __init__(self, body: JsonObject, closings: Sequence[str], *, strict: bool) -> None:
        self._body = body
        self._ends = (",", "}", *closings)
        self._strict = strict

    def read(self, source: Source, call: OpenCall) -> Reading[None]:
        """Read the object; the members that no call has are skipped, and of two of one name the first one counts."""
        yield from source.expect("{")
        seen = set[str]()
        held = ""  # arguments before the name
        if (yield from source.one_of("}")) is not None:
            raise NotACall("it has no name")
        while True:
            name = yield from _key(source)
            first = name not in seen
            seen.add(name)
            if first and name == self._body.name:
                call.named((yield from _text(source)))
                call.write(held)
                call.complete = bool(held)
            elif first and name == self._body.arguments:
                held = yield from self._arguments(source, call)
            else:
                yield from self._other(source, call, name)
            if (yield from self._ended(source, call)):
                break
        if call.name is None:
            raise NotACall("it has no name")
        if self._body.arguments not in seen:
            call.write("{}")
        call.complete = True

    def _arguments(self, source: Source, call: OpenCall) -> Reading[str]:
        """Read the arguments, and tell them if the name is known: else they are given back."""
        if (yield from source.skip_space()) == "{" and call.name is not None:
            yield from pass_value(source, call.write)
            call.complete = True
            return ""
        text = _object((yield from read_value(source)))
        if call.name is None:
            return text
        call.write(text)
        call.complete = True
        return ""

    def _other(self, source: Source, call: OpenCall, name: str) -> Reading[None]:
        if self._strict and call.name is None and (yield from source.skip_space()) != '"':
            raise NotACall("it has no name")
        text = yield from read_value(source)
        if name == self._body.id and call.call_id is None and len(text) <= _ID_CHARACTERS:
            value = json.loads(text)
            call.call_id = value if isinstance(value, str) else None

    def _ended(self, source: Source, call: OpenCall) -> Reading[bool]:
        """Whether the object ends here: with its brace, or without it where nothing else is missing."""
        found = yield from source.one_of(self._ends)
        if found == ",":
            return False
        if found is not None and found != "}" and call.complete:
            source.at -= len(found)
        elif found != "}":
            raise NotACall(f"not JSON: {source.text[source.at : source.at + 1]!r} behind a member")
        return True


def _key(source: Source) -> Reading[str]:
    name = yield from _text(source)
    yield from source.expect(":")
    return name


def _text(source: Source) -> Reading[str]:
    if (yield from source.skip_space()) != '"':
        raise NotACall(f"{source.text[source.at]!r} where a name begins")
    return str(json.loads((yield from read_value(source))))


def _object(text: str) -> str:
    """The arguments that ``text`` stands for: an object, a string that holds one, or none at all."""
    if text == "null":
        return "{}"
    if text.startswith('"'):
        text = json.loads(text).strip()
        scan = JsonScan()
        if scan.scan(text, 0) != len(text) or not scan.done:
            raise NotACall("its arguments are a text that is no JSON")
    if not text.startswith("{"):
        raise NotACall("its arguments are no JSON object")
    return text


class ArgumentsReader:
    """Reads a call that is a name and one JSON object, with ``after_name`` between them.

    The call's id may stand behind the name and ``before_id``.
    """

    def __init__(self, body: JsonArguments, before_id: Sequence[str], after_name: Sequence[str]) -> None:
        self._body = body
        self._before_id = before_id
        self._after_name = after_name

    def read(self, source: Source, call: OpenCall) -> Reading[None]:
        name = yield from read_name(source)
        if self._body.indexed:
            call.call_id = name
            name = ((found := _INDEXED.fullmatch(name)) and found[1]) or ""
        call.named(name)
        if self._before_id and (yield from source.one_of(self._before_id)) is not None:
            call.call_id = yield from read_name(source)
        yield from source.expect(self._after_name)
        yield from pass_object(source, call)

"""The reader of calls whose arguments stand one by one between markers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..formats.tool_format import Parameters
from .json_scan import JsonScan, quoted, within_quotes
from .open_call import OpenCall, read_name
from .source import Markers, NotACall, Reading, Source, pieces
from .value_types import STRING, Types, written

_MAX_NAME: Final = 256  # characters
_CDATA: Final = "<![CDATA["
_CDATA_ENDS: Final = Markers("]]>")
_FLAG: Final = "{string}"


class _Value:
    """A value that is told when it is whole. Texts of JSON that it holds may have any marker in them."""

    def __init__(self, types: Types | None) -> None:
        self.parts: list[str] = []
        # A text that is no JSON may begin with a quotation mark that nothing closes.
        self._scan = JsonScan() if types is not None and "string" not in types else None

    def append(self, text: str) -> None:
        self.parts.append(text)
        if self._scan is not None:
            self._scan.scan(text, 0)

    def in_string(self) -> bool:
        return self._scan is not None and self._scan.in_string


class ParametersReader:
    """Reads name, ``after_name`` and parameters, up to ``close``, which stays unread."""

    def __init__(self, body: Parameters, after_name: Sequence[str], close: Sequence[str]) -> None:
        self._after_name = after_name
        self._next = (*pieces(body.open), *close[:1])
        before, _, behind = body.after_name.partition(_FLAG)
        self._name_ends = Markers(pieces(before)[0])
        self._before_value = pieces(before)[1:]
        self._flagged = pieces(behind) if body.typed else None
        # A line of its own is no part of a value.
        self._opens_line = body.after_name.endswith("\n")
        self._cdata = body.cdata
        self._value_ends = Markers(body.close, *pieces(body.close))

    def read(self, source: Source, call: OpenCall) -> Reading[None]:
        call.named((yield from read_name(source)))
        if self._after_name:
            yield from source.expect(self._after_name)
            call.write("{")
        seen = set[str]()
        while (found := (yield from source.one_of(self._next))) == self._next[0]:
            if not seen and not self._after_name:
                call.write("{")
            name, types = yield from self._begin(source, call)
            write: Callable[[str], None] = call.write if name not in seen else lambda _: None
            write((", " if seen else "") + quoted(name) + ": ")
            yield from self._value(source, types, write)
            seen.add(name)
        if found is None:
            raise NotACall(f"{source.text[source.at]!r} where a parameter or the end of the call was expected")
        source.at -= len(found)
        call.write("}" if seen or self._after_name else "{}")
        call.complete = True

    def _begin(self, source: Source, call: OpenCall) -> Reading[tuple[str, Types | None]]:
        """Read the name of a parameter, up to its value: the name, and the types of the value."""
        name, marker = "", None
        while marker is None:
            text, marker = yield from source.passage(self._name_ends)
            name += text
            if len(name) > _MAX_NAME:
                raise NotACall(f"{name[:40]!r} is no name of a parameter")
        name = name.strip()
        types = call.types_of(name)
        if self._flagged is not None:
            flag = yield from source.one_of(("true", "false"))
            types = types or (STRING if flag == "true" else None)
            yield from source.expect(self._flagged)
        yield from source.expect(self._before_value)
        return name, types

    def _value(self, source: Source, types: Types | None, write: Callable[[str], None]) -> Reading[None]:
        """Read a value and its end, and ``write`` it as JSON: strings as they come."""
        if self._opens_line and (yield from source.next()) == "\n":
            source.at += 1
        close, behind, marked = self._value_ends, self._next, False
        if self._cdata and (yield from source.next()) == "<":
            marked = (yield from source.one_of((_CDATA,))) is not None
        if marked:
            close, behind, types = _CDATA_ENDS, self._value_ends.texts, types or STRING
        if types == STRING:
            write('"')
            yield from source.closed(close, behind, lambda text: write(within_quotes(text)))
            write('"')
        else:
            value = _Value(types)
            yield from source.closed(close, behind, value.append, value.in_string)
            write(written("".join(value.parts), types))
        if marked:
            yield from source.expect(self._value_ends.texts[-1:])

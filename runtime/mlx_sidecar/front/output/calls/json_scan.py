"""A scan checks JSON text as it comes, so that it can be passed on before it is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

MAX_DEPTH: Final = 128

_SPACES = re.compile(r"[ \t\r\n]+")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_NUMBER_PART = re.compile(r"[0-9+\-.eE]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}


def is_number(text: str) -> bool:
    """Whether ``text`` is a number of JSON."""
    return _NUMBER.fullmatch(text) is not None


def quoted(text: str) -> str:
    """``text`` as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def within_quotes(text: str) -> str:
    """``text`` as a part of a JSON string."""
    return quoted(text)[1:-1]


class JsonScan:
    """Checks one value. ``error`` says why the text is no JSON, ``done`` that the value is whole."""

    def __init__(self) -> None:
        self.done = False
        self.error: str | None = None
        self._open = ""  # the objects and arrays around this place: ``{`` and ``[``
        self._is_key = False  # the string that is read
        self._number = ""
        self._left = ""  # of a literal
        self._digits = 0  # that an escape still needs
        self._state: _State = JsonScan._value

    def scan(self, text: str, at: int) -> int:
        """Read ``text`` from ``at`` on: how far it is the value, or may yet be."""
        while at < len(text) and not self.done and self.error is None:
            spaces = _SPACES.match(text, at)
            if spaces is not None and self._state not in _INSIDE:
                at = spaces.end()
            else:
                at = self._state(self, text, at)
        return at

    @property
    def in_string(self) -> bool:
        """Whether the text that was read is JSON so far, and ends within a string."""
        return self.error is None and self._state in _IN_STRING

    def _value(self, text: str, at: int) -> int:
        char = text[at]
        if char == '"':
            self._is_key = False
            self._state = JsonScan._string
        elif char in "{[":
            if len(self._open) == MAX_DEPTH:
                return self._fail(f"nested deeper than {MAX_DEPTH}", at)
            self._open += char
            self._state = JsonScan._first_key if char == "{" else JsonScan._first_value
        elif char in _LITERALS:
            self._left = _LITERALS[char][1:]
            self._state = JsonScan._literal
        elif char in "-0123456789":
            self._number = ""
            self._state = JsonScan._digit
            return at
        else:
            return self._fail(f"{char!r} where a value begins", at)
        return at + 1

    def _first_value(self, text: str, at: int) -> int:
        return self._close(at) if text[at] == "]" else self._value(text, at)

    def _first_key(self, text: str, at: int) -> int:
        return self._close(at) if text[at] == "}" else self._key(text, at)

    def _key(self, text: str, at: int) -> int:
        if text[at] != '"':
            return self._fail(f"{text[at]!r} where a name begins", at)
        self._is_key = True
        self._state = JsonScan._string
        return at + 1

    def _colon(self, text: str, at: int) -> int:
        if text[at] != ":":
            return self._fail(f"{text[at]!r} in place of a colon", at)
        self._state = JsonScan._value
        return at + 1

    def _after(self, text: str, at: int) -> int:
        if text[at] == ",":
            self._state = JsonScan._key if self._open[-1] == "{" else JsonScan._value
            return at + 1
        if text[at] == ("}" if self._open[-1] == "{" else "]"):
            return self._close(at)
        return self._fail(f"{text[at]!r} behind a value", at)

    def _string(self, text: str, at: int) -> int:
        if (plain := _PLAIN.match(text, at)) is not None:
            return plain.end()
        if text[at] == '"':
            if self._is_key:
                self._state = JsonScan._colon
            else:
                self._end_value()
        elif text[at] == "\\":
            self._state = JsonScan._escape
        else:
            return self._fail("a control character in a string", at)
        return at + 1

    def _escape(self, text: str, at: int) -> int:
        if text[at] == "u":
            self._digits = 4
            self._state = JsonScan._hex
        elif text[at] in '"\\/bfnrt':
            self._state = JsonScan._string
        else:
            return self._fail(f"the escape \\{text[at]} in a string", at)
        return at + 1

    def _hex(self, text: str, at: int) -> int:
        if text[at] not in "0123456789abcdefABCDEF":
            return self._fail("an escape that is cut short", at)
        self._digits -= 1
        if not self._digits:
            self._state = JsonScan._string
        return at + 1

    def _literal(self, text: str, at: int) -> int:
        if text[at] != self._left[0]:
            return self._fail("a word that is no value", at)
        self._left = self._left[1:]
        if not self._left:
            self._end_value()
        return at + 1

    def _digit(self, text: str, at: int) -> int:
        if (part := _NUMBER_PART.match(text, at)) is not None:
            self._number += part[0]
            return part.end()
        if not is_number(self._number):
            return self._fail(f"{self._number[:40]} is no number", at)
        self._end_value()
        return at

    def _close(self, at: int) -> int:
        self._open = self._open[:-1]
        self._end_value()
        return at + 1

    def _end_value(self) -> None:
        self.done = not self._open
        self._state = JsonScan._after

    def _fail(self, why: str, at: int) -> int:
        self.error = f"not JSON: {why}"
        return at


_State = Callable[[JsonScan, str, int], int]
_IN_STRING: Final = (JsonScan._string, JsonScan._escape, JsonScan._hex)
_INSIDE: Final = (*_IN_STRING, JsonScan._literal, JsonScan._digit)

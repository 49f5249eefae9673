"""Literals of Python, and of formats with bare keys, are written as JSON while they come."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from .json_scan import MAX_DEPTH, is_number, quoted, within_quotes
from .source import Markers, NotACall, Reading, Source

Write = Callable[[str], None]

_WORD = re.compile(r"[\w.+-]*")
_MAX_WORD: Final = 4096  # characters
_BARE_KEY = re.compile(r"[^:{}\[\](),\"'<>\s]*")
_CONSTANTS: Final = {"True": "true", "False": "false", "None": "null"} | {w: w for w in ("true", "false", "null")}
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CLOSINGS: Final = {"{": "}", "[": "]", "(": ")"}
_ESCAPES: Final = {
    "n": "\\n",
    "t": "\\t",
    "r": "\\r",
    "b": "\\b",
    "f": "\\f",
    "a": "\\u0007",
    "v": "\\u000b",
    "0": "\\u0000",
    "\\": "\\\\",
    '"': '\\"',
    "'": "'",
    "/": "/",
}
_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_LAST_OF_TWO_BYTES: Final = 0xFFFF
_BEHIND_BARE: Final = (",", "}", "]")
_markers = cache(Markers)
_HEX = re.compile(r"[0-9a-fA-F]*")


@dataclass(frozen=True)
class Syntax:
    """How literals are written. ``quote`` stands around strings that have no escapes, "" where all have them.

    With a quote, keys are bare.
    """

    quote: str = ""

    @property
    def opens_string(self) -> tuple[str, ...]:
        return (self.quote, '"', "'") if self.quote else ('"', "'")


PYTHON: Final = Syntax()


def write_literal(source: Source, write: Write, syntax: Syntax = PYTHON) -> Reading[None]:
    """Read one literal and ``write`` it as JSON. Raises NotACall for a text that is none."""
    open_ones = ""  # the brackets around this place
    first = True  # of its object or list
    while True:
        char = yield from source.skip_space()
        if not open_ones or char != _CLOSINGS[open_ones[-1]]:
            if open_ones and not first:
                write(", ")
            if open_ones.endswith("{"):
                yield from _write_key(source, write, syntax)
            char = yield from source.skip_space()
            if char in _CLOSINGS:
                if len(open_ones) == MAX_DEPTH:
                    raise NotACall(f"its arguments are nested deeper than {MAX_DEPTH}")
                source.at += 1
                open_ones, first = open_ones + char, True
                write("{" if char == "{" else "[")
                continue
            yield from _write_scalar(source, write, syntax)
        while open_ones:
            found = yield from source.one_of((_CLOSINGS[open_ones[-1]], ","))
            if found is None:
                raise NotACall(f"{source.text[source.at]!r} behind a value")
            if found == ",":
                break
            write("}" if found == "}" else "]")
            open_ones = open_ones[:-1]
        first = False
        if not open_ones:
            return


def _write_key(source: Source, write: Write, syntax: Syntax) -> Reading[None]:
    if (yield from source.stands(syntax.opens_string)):
        yield from write_string(source, write, syntax)
    else:
        key = yield from source.run(_BARE_KEY if syntax.quote else _WORD, _MAX_WORD)
        if not key:
            raise NotACall(f"{source.text[source.at]!r} where a name begins")
        write(quoted(key if syntax.quote else word_json(key)))
    if (yield from source.one_of((":",))) is None:
        raise NotACall("a name without a value")
    write(": ")


def _write_scalar(source: Source, write: Write, syntax: Syntax) -> Reading[None]:
    if (yield from source.stands(syntax.opens_string)):
        yield from write_string(source, write, syntax)
    else:
        write(word_json((yield from source.run(_WORD, _MAX_WORD))))


def word_json(word: str) -> str:
    """The JSON of a number or a constant, of JSON or Python. Raises NotACall for any other word."""
    if is_number(word):
        return word
    if word in _CONSTANTS:
        return _CONSTANTS[word]
    if _INTEGER.fullmatch(word):
        return word.lstrip("+").replace("_", "")
    if _FLOAT.fullmatch(word) and math.isfinite(value := float(word)):
        return json.dumps(value)
    raise NotACall(f"{word[:40]!r} is no literal")


def write_string(source: Source, write: Write, syntax: Syntax) -> Reading[None]:
    """Read a string, at whose quote the source stands, and ``write`` it as JSON."""
    quote = yield from source.one_of(syntax.opens_string)
    assert quote is not None
    write('"')
    if quote == syntax.quote:
        yield from source.closed(_markers(quote), _BEHIND_BARE, lambda text: write(within_quotes(text)))
    else:
        yield from _write_escaped(source, write, quote)
    write('"')


def _write_escaped(source: Source, write: Write, quote: str) -> Reading[None]:
    """Read a string behind its first ``quote``; three of them may stand around it."""
    if (yield from source.next()) == quote:
        source.at += 1
        if (yield from source.next()) != quote:
            return
        source.at += 1
        quote *= 3
    special = _markers(quote, "\\")
    while True:
        text, marker = yield from source.passage(special)
        write(within_quotes(text))
        if marker == quote:
            return
        if marker is not None:
            write((yield from _escape(source)))


def _escape(source: Source) -> Reading[str]:
    """Read an escape behind its backslash: the character, as it stands in a JSON string."""
    kind = yield from source.next()
    source.at += 1
    if kind not in _DIGITS:
        if kind == "\n":  # a line that goes on
            return ""
        return _ESCAPES.get(kind) or within_quotes("\\" + kind)
    digits = yield from source.run(_HEX, _DIGITS[kind])
    code = int(digits, 16) if len(digits) == _DIGITS[kind] else sys.maxunicode + 1
    if code > sys.maxunicode:
        raise NotACall(f"the escape \\{kind}{digits} in a string")
    return f"\\u{code:04x}" if code <= _LAST_OF_TWO_BYTES else within_quotes(chr(code))

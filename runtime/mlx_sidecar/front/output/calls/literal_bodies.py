"""The reader of calls whose arguments are literals, each behind its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .json_scan import quoted
from .literals import PYTHON, Syntax, write_literal
from .open_call import OpenCall, read_name
from .source import NotACall, Reading, Source
from .value_types import STRING

_MAX_NAME: Final = 256  # characters
_KEY = re.compile(r"[\w.-]*")
_OPENING, _CLOSING = "([{", ")]}"


class LiteralsReader:
    """Reads a call up to its last bracket: ``NAME(key=literal, …)`` in Python, else ``NAME{key:literal,…}``."""

    def __init__(self, syntax: Syntax) -> None:
        self._syntax = syntax
        self._opens, self._equals, self._closes = ("(", "=", ")") if syntax == PYTHON else ("{", ":", "}")

    def read(self, source: Source, call: OpenCall) -> Reading[None]:
        call.named((yield from read_name(source)))
        yield from source.expect(self._opens)
        call.write("{")
        seen = set[str]()
        while (yield from source.one_of((self._closes,))) is None:
            yield from self._argument(source, call, seen)
            found = yield from source.one_of((",", self._closes))
            if found is None:
                raise NotACall(f"{source.text[source.at]!r} behind an argument")
            if found == self._closes:
                break
        call.write("}")
        call.complete = True

    def _argument(self, source: Source, call: OpenCall, seen: set[str]) -> Reading[None]:
        name = yield from source.run(_KEY, _MAX_NAME)
        if not name or (yield from source.one_of((self._equals,))) is None:
            raise NotACall("an argument without a name")
        write: Callable[[str], None] = call.write if name not in seen else lambda _: None
        write((", " if seen else "") + quoted(name) + ": ")
        seen.add(name)
        yield from source.skip_space()
        if call.types_of(name) == STRING and not (yield from source.stands(self._syntax.opens_string)):
            write(quoted((yield from _as_it_stands(source))))
        else:
            yield from write_literal(source, write, self._syntax)


def _as_it_stands(source: Source) -> Reading[str]:
    """Read the text up to the comma or bracket behind an argument."""
    parts, depth = list[str](), 0
    while (char := (yield from source.next())) not in _CLOSING + "," or depth:
        depth += (char in _OPENING) - (char in _CLOSING)
        parts.append(char)
        source.at += 1
    return "".join(parts).strip()

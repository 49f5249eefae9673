"""The ways out of a grammar: which texts end a stretch of any text in it, and which ones lead into another one."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ..core.constraint import Constraint
from .fake_script import END

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Bytes that bring an answer in JSON to its end soonest: they close a string, and what holds it.
_CLOSING: Final = b'"}]'
# Allowed in any text, and in neither JSON nor a marker.
_PROBE: Final = 1
# Bytes from this on are within a character of UTF-8, such as one of a marker.
_WITHIN_CHARACTER: Final = 0x80
# Where more bytes than this are allowed the next one is a part of somebody's text, and not the beginning of a marker.
_FEW: Final = 64

# Parts of a grammar in Lark syntax: texts between quotes, and patterns between slashes, either of which may have the
# other's sign in it.
_PART = re.compile(r'("(?:[^"\\]|\\.)*")|/((?:[^/\\]|\\.)+)/')
_SPACE = r"[ \n\r\t]*"  # as patterns have it within a marker
_TAIL = re.compile(r"(?:\\.|[^\\.+*?()|\[\]{}^$])*$", re.DOTALL)  # the end of a pattern, as far as it is plain text
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}


class WaysOut:
    """Texts of one grammar, which is JSON text as the link carries it; they are guesses that a constraint confirms."""

    def __init__(self, grammar: str) -> None:
        parts = json.loads(grammar)["grammars"] if grammar.startswith("{") else [{"lark_grammar": grammar}]
        found = _PART.findall("\n".join(part.get("lark_grammar", "") for part in parts))
        literals = {json.loads(literal) for literal, _ in found if literal}
        self._literals = _encoded(literals)
        # Texts that may end a stretch of any text.
        self._markers = _encoded({*literals, *(_tail(pattern) for _, pattern in found if pattern)})

    def end_of_text(self, constraint: Constraint, said: bytes) -> int | None:
        """Return the next byte of the shortest marker that ends the text behind ``said``; None if none is known."""
        rests = (
            marker[begun:]
            for marker in self._markers
            for begun in range(len(marker))
            if said.endswith(marker[:begun]) or not begun
        )
        for rest in sorted(rests, key=lambda rest: (len(rest), rest)):
            row = list(rest)
            reached = constraint.allowed([*row, END])
            # Behind it the answer is whole, or no text may follow.
            if reached > len(row) or (reached == len(row) and constraint.allowed([*row, _PROBE]) == len(row)):
                return row[0]
        return None

    def leads_into_text(self, constraint: Constraint, byte: int) -> bool:
        """Return whether all markers that go on with ``byte`` have any text behind them, such as that of reasoning."""
        allowed = self._rests(constraint, byte)
        whole = [rest for rest in allowed if not any(other != rest and other.startswith(rest) for other in allowed)]
        return bool(whole) and all(constraint.allowed([*rest, _PROBE]) > len(rest) for rest in whole)

    def leads_to_the_end(self, constraint: Constraint, byte: int) -> bool:
        """Return whether the answer is whole behind a marker that goes on with ``byte``."""
        return any(constraint.allowed([*rest, END]) > len(rest) for rest in self._rests(constraint, byte))

    def _rests(self, constraint: Constraint, byte: int) -> list[bytes]:
        rests = {text[at:] for text in self._literals for at, other in enumerate(text) if other == byte}
        return [rest for rest in rests if constraint.allowed([*rest]) == len(rest)]

    def other(self, constraint: Constraint, mask: NDArray[np.bool_], said: bytes, *, closing: bool) -> int | None:
        """Return the token to take where the script's is not allowed, or is said to its end (``closing``).

        It is the lowest allowed one that leads into no text; while ``closing`` one that brings the answer to its end.
        None where nothing is allowed but the end.
        """
        allowed = [token for token in mask.nonzero()[0].tolist() if token != END]
        if not closing:
            few = 1 < len(allowed) <= _FEW
            return min(self._not_into_text(constraint, allowed) if few else allowed, default=None)
        if allowed and (mask[_PROBE] or allowed[0] >= _WITHIN_CHARACTER):
            end = self.end_of_text(constraint, said)
            if end is not None:
                return end
        elif closers := [token for token in _CLOSING if mask[token]]:
            return closers[0]
        if 1 < len(allowed) <= _FEW:
            ends = [token for token in allowed if self.leads_to_the_end(constraint, token)]
            allowed = ends or self._not_into_text(constraint, allowed)
        # A space may be allowed behind a space, and so on.
        return min(allowed, key=lambda token: (token <= ord(" "), token), default=None)

    def _not_into_text(self, constraint: Constraint, allowed: list[int]) -> list[int]:
        return [token for token in allowed if not self.leads_into_text(constraint, token)] or allowed


@lru_cache(maxsize=64)
def ways_out(grammar: str) -> WaysOut:
    """Return those of ``grammar``, which many answers may have in common."""
    return WaysOut(grammar)


def _encoded(texts: set[str]) -> list[bytes]:
    return sorted(text.encode() for text in texts if text)


def _tail(pattern: str) -> str:
    """The plain text that ``pattern`` ends with, if any."""
    found = _TAIL.search(pattern.replace(_SPACE, "").removesuffix(")"))
    assert found is not None  # it may be empty
    return _ESCAPED.sub(lambda escaped: _CONTROLS.get(escaped[1], escaped[1]), found[0])

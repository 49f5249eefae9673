"""Texts and regular expressions as grammars in Lark syntax have them.

Terminals of any text exclude what they do not have, so that no text is matched in two ways.
"""

from __future__ import annotations

import json
import re

ANY = r"(.|\n)*"
MORE = r"(.|\n)+"
SPACE = r"[ \n\r\t]"

_META = frozenset("\\.+*?()|[]{}^$#&-~")
_RUN_OF_SPACE = re.compile(r"\s+")


def literal(text: str) -> str:
    """``text`` between quotes; JSON leaves a control character as it is that Lark takes in no literal."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", r"\u007f")


def between_slashes(pattern: str) -> str:
    """A regular expression as a terminal."""
    escaped, at = "", 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            escaped += pattern[at : at + 2]
            at += 2
            continue
        escaped += {"/": r"\/", "\n": r"\n", "\r": r"\r"}.get(character, character)
        at += 1
    return f"/{escaped}/"


def exactly(text: str) -> str:
    """The pattern that matches ``text`` alone."""
    return "".join("\\" + character if character in _META else character for character in text)


def loosely(text: str) -> str:
    """The pattern of ``text`` with any white space, or none, where it has some within."""
    return f"{SPACE}*".join(map(exactly, _RUN_OF_SPACE.split(text.strip())))


def ending_with(pattern: str) -> str:
    """The terminal of any text up to the first match of ``pattern``, which it ends with."""
    return f"{between_slashes(f'{ANY}({pattern})')} & {without_more_behind(pattern)}"


def without(pattern: str) -> str:
    """The condition on a terminal that ``pattern`` matches nothing in it."""
    return f"~{between_slashes(f'{ANY}({pattern}){ANY}')}"


def without_more_behind(pattern: str) -> str:
    """The condition on a terminal that ``pattern`` matches nothing in it but its very end."""
    return f"~{between_slashes(f'{ANY}({pattern}){MORE}')}"


def not_beginning_with(pattern: str) -> str:
    """The condition on a terminal that ``pattern`` does not match its beginning, behind white space."""
    return f"~{between_slashes(f'{SPACE}*({pattern}){ANY}')}"

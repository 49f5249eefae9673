"""Where questions come from: lines of a pipe, or the line editor of a terminal."""

from __future__ import annotations

import sys
from typing import Protocol

QUOTES = '"""'


class Reader(Protocol):
    """Reads questions and commands."""

    def ask(self) -> str | None:
        """The next message or command; None at the end."""

    def confirm(self, question: str, *, default: bool = True) -> bool:
        """Whether the person says yes, or nothing where ``default`` is yes; no, where no person can be asked."""
        ...


class PipeReader:
    """Reads lines of stdin, and several between triple quotes. Writes nothing."""

    def ask(self) -> str | None:
        line = sys.stdin.readline()
        if not line:
            return None
        while is_open(line) and (more := sys.stdin.readline()):
            line += more
        return unquoted(line.rstrip("\n"))

    def confirm(self, question: str, *, default: bool = True) -> bool:
        return False


def is_open(text: str) -> bool:
    """Whether ``text`` begins with triple quotes that are not closed yet."""
    begun = text.lstrip()
    return begun.startswith(QUOTES) and not (len(begun.rstrip()) >= 2 * len(QUOTES) and begun.rstrip().endswith(QUOTES))


def unquoted(text: str) -> str:
    """``text`` without the triple quotes around it."""
    inner = text.strip()
    if not inner.startswith(QUOTES):
        return text
    return inner.removeprefix(QUOTES).removesuffix(QUOTES).strip("\n")

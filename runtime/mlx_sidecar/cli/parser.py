"""An argument parser whose errors are one line, with the nearest word that would have been right."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

USAGE = 2  # the exit status of a wrong command line


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known word that is most like ``word``, or nothing."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


class Parser(argparse.ArgumentParser):
    """The parser of a command. Options are spelled out: an abbreviation of today may be ambiguous tomorrow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        self.commands: dict[str, Parser] = {}
        self.summary = ""  # the command in a line

    def parse(self, words: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse ``words``, by default those of the process. An error ends the process with status 2."""
        args, left_over = self.parse_known_args(words)
        if left_over:
            at_fault: Parser = getattr(args, "parser", self)
            options = (option for action in at_fault._actions for option in action.option_strings)
            what = "option" if left_over[0].startswith("-") else "argument"
            at_fault.error(f"no {what} {left_over[0]!r} here{nearest(left_over[0].split('=')[0], options)}")
        return args

    def error(self, message: str) -> NoReturn:
        """End the process with status 2 and one line that says where help is."""
        from .terminal_text import harmless

        sys.stderr.write(f"error: {harmless(message)} (help: {self.prog} --help)\n")
        sys.exit(USAGE)

    # argparse has no public place where a refused choice may be answered in other words.
    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        hint = nearest(str(value), choices) or f": one of {', '.join(choices)}"
        raise argparse.ArgumentError(action, f"{value!r} is not known{hint}")

"""This module makes tokens into the text that may be sent, up to the first stop string.

A stop string is looked for in the text that is sent, and, where it names special tokens, in the text with these written
out as well. The one that is completed first wins, and of two that end at the same place the longer one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from .special_stops import SpecialStops


class Detokenizer(Protocol):
    def push(self, token: int) -> str: ...
    def push_many(self, tokens: list[int]) -> str: ...
    def pending(self) -> str: ...
    def finish(self) -> str: ...


class StopMatcher(Protocol):
    @property
    def looks(self) -> bool: ...
    def push(self, text: str) -> tuple[str, str | None]: ...
    def finish(self) -> str: ...


Said = tuple[str, str | None]  # text that may be sent, and the stop string that ended it


class Taken(NamedTuple):
    """The ``text`` of so many ``tokens`` that may be sent, and the stop string that ended it with the last of them."""

    text: str
    match: str | None
    tokens: int


def until_stop(detokenizer: Detokenizer, stops: StopMatcher, special: SpecialStops | None) -> UntilStop:
    """``special``: the search for stop strings that name special tokens; None if none does."""
    return UntilStop(detokenizer, stops) if special is None else _UntilSpecialStop(detokenizer, stops, special)


class UntilStop:
    """The text of one stream, where no stop string names a special token."""

    def __init__(self, detokenizer: Detokenizer, stops: StopMatcher) -> None:
        self._detokenizer = detokenizer
        self._stops = stops

    def push(self, tokens: list[int]) -> Taken:
        """Take more tokens, up to the one that completes a stop string. There must be no more after a match."""
        if not self._stops.looks:
            return Taken(self._detokenizer.push_many(tokens), None, len(tokens))
        return _one_by_one(tokens, lambda token: self._stops.push(self._detokenizer.push(token)))

    def finish(self, stop_token: int | None = None) -> Said:
        """There are no more: the text held back. ``stop_token`` ended them and is not one of them."""
        text, match = self._stops.push(self._detokenizer.finish())
        return (text, match) if match is not None else (text + self._stops.finish(), None)


class _UntilSpecialStop(UntilStop):
    """The text of one stream, where some stop strings name special tokens. All counts are of characters of text."""

    def __init__(self, detokenizer: Detokenizer, stops: StopMatcher, special: SpecialStops) -> None:
        super().__init__(detokenizer, stops)
        self._special = special
        self._certain = 0  # given by the detokenizer
        self._passed = 0  # of that, without a beginning of a plain stop string
        self._waiting = ""  # the end of the certain text, not given out, because a stop string may begin there
        self._ahead = ""  # the detokenizer holds it back, but it stands before a special token and was read with that

    def push(self, tokens: list[int]) -> Taken:
        return _one_by_one(tokens, self._push)

    def finish(self, stop_token: int | None = None) -> Said:
        text, match = self._read(self._detokenizer.finish())
        if match is None and stop_token is not None and self._special.hides(stop_token):
            more, match = self._settle("", self._special.special(stop_token), behind=True)
            text += more
        return (text, match) if match is not None else (text + self._waiting, None)

    def _push(self, token: int) -> Said:
        # A detokenizer may have waited for this token: then this is text from before it.
        text, match = self._read(self._detokenizer.push(token))
        if match is not None or not self._special.hides(token):
            return text, match
        more, match = self._read_special(token)
        return text + more, match

    def _read(self, text: str) -> Said:
        """Read text that has become certain."""
        if text and not text.startswith(self._ahead):
            self._start_over()
        unread = text[len(self._ahead) :]
        if text:
            self._ahead = ""
        read, match = self._special.read(unread)
        return self._settle(text[: len(text) - len(unread) + read], match)

    def _read_special(self, token: int) -> Said:
        """Read a special token, after the text that the detokenizer holds back, which was written before it."""
        pending = self._detokenizer.pending()
        if not pending.startswith(self._ahead):
            self._start_over()
        unread = pending[len(self._ahead) :]
        read, match = self._special.read(unread)
        if match is not None:
            return self._settle(pending[: len(pending) - len(unread) + read], match)
        match = self._special.special(token)
        if match is not None:
            return self._settle(pending, match, behind=True)
        self._ahead = pending
        return self._settle("", None)

    def _start_over(self) -> None:
        """A character with bytes on both sides of a special token was read as two: no stop string holds it."""
        self._special.restart(self._certain)
        self._ahead = ""

    def _settle(self, text: str, match: str | None, *, behind: bool = False) -> Said:
        """``text`` is certain, and a stop string with a special token ends with it (``behind``: right behind it)."""
        passed, plain = self._stops.push(text)
        self._certain += len(text)
        self._passed += len(passed)
        self._waiting += text
        if plain is not None:
            earlier = behind or self._passed + len(plain) < self._certain
            if match is None or earlier or len(plain) >= len(match):
                return self._take(self._passed), plain
        if match is not None:
            return self._take(self._special.start_of(match)), match
        return self._take(min(self._passed, self._special.begins)), None

    def _take(self, end: int) -> str:
        """The waiting text before the character ``end``."""
        count = end - (self._certain - len(self._waiting))
        text, self._waiting = self._waiting[:count], self._waiting[count:]
        return text


def _one_by_one(tokens: list[int], push: Callable[[int], Said]) -> Taken:
    parts: list[str] = []
    for count, token in enumerate(tokens, 1):
        text, match = push(token)
        parts.append(text)
        if match is not None:
            return Taken("".join(parts), match, count)
    return Taken("".join(parts), None, len(tokens))

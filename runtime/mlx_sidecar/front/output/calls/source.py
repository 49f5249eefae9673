"""A source gives the output of a model, piece by piece as it comes, to readers that are generators.

A reader yields where it needs more text than there is, and is resumed when more has come. It reads the same characters
however the output is cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import Final, NamedTuple, TypeVar

from ...channels import Channel

T = TypeVar("T")
Reading = Generator[None, None, T]

SPACE: Final = " \t\r\n"
_SPACES = re.compile(r"[ \t\r\n]*")


class OutOfText(Exception):
    """The output ended where a reader wanted more of it."""


class NotACall(Exception):
    """The text that was read is no tool call; the message says why."""


def pieces(text: str, tokens: Sequence[str] = ()) -> tuple[str, ...]:
    """The parts of ``text`` between which white space may stand: its lines, and the markers among ``tokens``."""
    for token in tokens:
        if token[0] in "<[":  # others are parts of a marker
            text = text.replace(token, f"\n{token}\n")
    return tuple(stripped for line in text.split("\n") if (stripped := line.strip()))


class Markers:
    """A search for the first of several texts, and for the beginning of one at the very end."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        firsts = {text[:1] for text in texts}
        self.first = firsts.pop() if len(firsts) == 1 else None  # the character with which all of them begin
        whole = sorted(set(texts), key=len, reverse=True)
        begun = sorted({text[:end] for text in texts for end in range(1, len(text))}, key=len, reverse=True)
        pattern = f"({'|'.join(map(re.escape, whole))})"
        if begun:
            pattern += rf"|(?:{'|'.join(map(re.escape, begun))})\Z"
        self.search = re.compile(pattern).search


class Passing(NamedTuple):
    """All that comes is of ``channel``, until there is a ``first``, the first character of a marker."""

    channel: Channel
    first: str


class Source:
    """The output of one stream: ``text`` of which the characters before ``at`` have been read.

    Positions count the characters of the whole output.
    """

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.ended = False
        self.passing: Passing | None = None  # a reader waits and holds nothing back; it need not be resumed for that
        self._before = 0  # characters before ``text``
        self._kept: list[str] | None = None  # read since ``keep`` and before ``text``
        self._kept_to = 0  # in ``text``

    def passes(self, channel: Channel, markers: Markers) -> None:
        """The reader will wait for ``markers`` and holds back nothing but what has begun of one."""
        if markers.first is not None and self.at == len(self.text):
            self.passing = Passing(channel, markers.first)

    @property
    def position(self) -> int:
        return self._before + self.at

    @property
    def end(self) -> int:
        """The position behind all text that has come."""
        return self._before + len(self.text)

    @property
    def keeps(self) -> bool:
        return self._kept is not None

    def feed(self, text: str) -> None:
        if self._kept is not None:
            self._kept.append(self.text[self._kept_to : self.at])
            self._kept_to = 0
        self._before += self.at
        self.text = self.text[self.at :] + text
        self.at = 0

    def keep(self, text: str = "") -> None:
        """Keep what is read from here on, behind ``text``."""
        self._kept, self._kept_to = [text], self.at

    def kept(self) -> str:
        """The text that was kept, which is kept no longer; empty if none was."""
        if self._kept is None:
            return ""
        text = "".join(self._kept) + self.text[self._kept_to : self.at]
        self._kept = None
        return text

    def kept_to_end(self) -> str:
        """The text that was kept, and all that has come behind it."""
        self.rest()
        return self.kept()

    def take(self, end: int) -> str:
        """Read up to the index ``end`` of ``text``."""
        text, self.at = self.text[self.at : end], end
        return text

    def rest(self) -> str:
        """Read all text that has come."""
        return self.take(len(self.text))

    def more(self) -> Reading[None]:
        """Wait until more text has come. Raises OutOfText where none does."""
        if self.ended:
            raise OutOfText
        yield

    def next(self) -> Reading[str]:
        """The next character, which stays unread."""
        while self.at == len(self.text):
            yield from self.more()
        return self.text[self.at]

    def skip_space(self) -> Reading[str]:
        """Read white space; the character behind it, which stays unread."""
        while True:
            spaces = _SPACES.match(self.text, self.at)
            assert spaces is not None
            self.at = spaces.end()
            if self.at < len(self.text):
                return self.text[self.at]
            yield from self.more()

    def one_of(self, options: Sequence[str]) -> Reading[str | None]:
        """Read that of ``options`` which stands behind white space; None if none does, the white space being read."""
        yield from self.skip_space()
        while True:
            for option in options:
                if self.text.startswith(option, self.at):
                    self.at += len(option)
                    return option
            begun = self.text[self.at : self.at + max(map(len, options), default=0)]
            if not any(option.startswith(begun) for option in options):
                return None
            yield from self.more()

    def expect(self, pieces: Sequence[str]) -> Reading[None]:
        """Read ``pieces``, with or without white space before each. Raises NotACall where one is missing."""
        for piece in pieces:
            if (yield from self.one_of((piece,))) is None:
                raise NotACall(f"{piece} is missing")

    def run(self, pattern: re.Pattern[str], limit: int) -> Reading[str]:
        """Read the characters that ``pattern``, which matches any number of them, finds here; ``limit`` at most."""
        parts: list[str] = []
        left = limit
        while left > 0:
            yield from self.next()
            found = pattern.match(self.text, self.at, self.at + left)
            assert found is not None
            parts.append(self.take(found.end()))
            left -= len(parts[-1])
            if self.at < len(self.text):
                break
        return "".join(parts)

    def passage(self, markers: Markers) -> Reading[tuple[str, str | None]]:
        """Read text up to one of ``markers``, and that: (the text, the marker).

        Where the marker has not come yet: (the text before all that may be its beginning, None).
        """
        while True:
            found = markers.search(self.text, self.at)
            text = self.take(len(self.text) if found is None else found.start())
            if found is not None and found[1] is not None:
                self.at = found.end()
                return text, found[1]
            if text:
                return text, None
            yield from self.more()

    def stands(self, options: Sequence[str]) -> Reading[bool]:
        """Whether one of ``options`` stands here, behind white space, or the output ends before that is certain.

        Nothing is read.
        """
        while True:
            spaces = _SPACES.match(self.text, self.at)
            assert spaces is not None
            begun = self.text[spaces.end() : spaces.end() + max(map(len, options))]
            if begun and any(begun.startswith(option) for option in options):
                return True
            if begun and not any(option.startswith(begun) for option in options):
                return False
            if self.ended:
                return True
            yield

    def closed(
        self,
        close: Markers,
        behind: Sequence[str],
        write: Callable[[str], None],
        in_string: Callable[[], bool] = lambda: False,
    ) -> Reading[None]:
        """Read text and ``write`` it, up to one of ``close`` with one of ``behind`` behind it, or with the end.

        ``in_string``: what was written ends within a string, in which no marker counts.
        """
        while True:
            text, marker = yield from self.passage(close)
            write(text)
            if marker is not None:
                if not in_string() and (yield from self.stands(behind)):
                    return
                write(marker)

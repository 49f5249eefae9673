"""A parser sorts the output of a model into channels, such as the answer and its reasoning.

It stands between stop strings and transcript, and gets text that may be sent and that no later token changes.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

TEXT = "text"  # the channel that ``generate`` answers


class Segment(msgspec.Struct, frozen=True):
    """Text of one channel, whole characters."""

    channel: str
    text: str


class OutputParser(Protocol):
    """Sorts the output of one stream into channels. It may hold back text, e.g. the beginning of a marker.

    A stream's engine may be lost and another go on with it: the parser is not told, because no token comes twice.
    """

    def push(self, text: str, tokens: list[int]) -> list[Segment]:
        """Take more output: the segments that are certain, in their order.

        ``tokens`` are all that the engine has generated since the last call, special ones among them. ``text`` is the
        text that they made certain, which is less where a character or a stop string has only begun. The detokenizer
        leaves the texts of special tokens out of ``text`` unless it was made with ``skip_special=False``: a parser that
        needs to know where they stand asks for such a one, and removes them itself.
        """
        ...

    def finish(self) -> list[Segment]:
        """There is no more output: the segments held back."""
        ...


class PlainText:
    """The parser of a model whose output is one text."""

    def push(self, text: str, tokens: list[int]) -> list[Segment]:
        return [Segment(TEXT, text)] if text else []

    def finish(self) -> list[Segment]:
        return []

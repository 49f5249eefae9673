"""A parser sorts the output of a model into channels: the answer, its reasoning, and the arguments of each tool call.

It stands between stop strings and transcript, and gets text that may be sent and that no later token changes.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from ..channels import TEXT, CallHead, Channel


class Segment(msgspec.Struct, frozen=True):
    """Text of one channel, whole characters. The first one of a call has its ``head``, and is not empty."""

    channel: Channel
    text: str
    head: CallHead | None = None


class Unfinished(msgspec.Struct, frozen=True):
    """A call that is not whole: its ``text`` as the model wrote it, markers included.

    ``index`` is its channel, None where there is none because its name is not known.
    """

    text: str
    index: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """The finds of a parser. ``calls``: indices of the whole ones. ``error``: why something is no call, or not whole.

    ``reasoning_tokens`` is None where no reasoning is looked for.
    """

    calls: tuple[int, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    error: str | None = None
    reasoning_tokens: int | None = None


class OutputParser(Protocol):
    """Sorts the output of one stream into channels. It may hold back text, e.g. the beginning of a marker.

    A stream's engine may be lost and another go on with it: the parser is not told, because no token comes twice.
    """

    @property
    def one_by_one(self) -> bool:
        """Whether the next tokens are to be pushed one at a time, because they are counted."""
        ...

    @property
    def outcome(self) -> Outcome:
        """The finds so far; whole after ``finish``."""
        ...

    def push(self, text: str, tokens: list[int]) -> list[Segment]:
        """Take more output: the segments that are certain, in their order.

        ``tokens`` are all that the engine has generated since the last call, special ones among them. ``text`` is the
        text that they made certain, which is less where a character or a stop string has only begun. It has the texts
        of those special tokens that the parser asked to be shown (``Detokenizers.new``), and no others.
        """
        ...

    def finish(self, *, cut: bool) -> list[Segment]:
        """There is no more output: the segments held back. ``cut``: the model did not end its turn itself."""
        ...


class PlainText:
    """The parser of a model whose output is one text."""

    one_by_one = False
    outcome = Outcome()

    def push(self, text: str, tokens: list[int]) -> list[Segment]:
        return [Segment(TEXT, text)] if text else []

    def finish(self, *, cut: bool) -> list[Segment]:
        return []

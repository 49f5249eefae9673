"""A transcript stores the text and tokens of a stream compactly; another thread may read it while it grows."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

import msgspec

from ..channels import TEXT, CallHead, Channel
from ..output.parser import Segment

CHUNK = 4096  # characters; bounds both the cost of an append and the size of a delta


class _Run(NamedTuple):
    """Text of one channel, up to the beginning of the next run. Both numbers are of characters."""

    begin: int  # of all channels, before it
    channel: Channel
    offset: int  # of its channel, before it


class Extract(msgspec.Struct, frozen=True):
    """A piece of the transcript. ``offset`` counts the characters of ``channel`` before ``text``.

    ``text_offset`` counts those of the answer's own text. ``head``: a tool call begins with it.
    """

    channel: Channel
    offset: int
    text: str
    tokens: list[int]
    text_offset: int
    head: CallHead | None = None


class Transcript:
    """A transcript grows at the end only. One thread appends; others read ranges below ``published``.

    The channels stand in it one behind the other as they were written, so a place in it is one number of characters.
    Memory is the text, eight bytes a token and a tuple for each change of channel: a host that stops reading costs
    that and nothing else.
    """

    def __init__(self) -> None:
        self._chunks: list[str] = [""]  # all but the last hold exactly CHUNK characters
        self._tokens = array("I")
        self._ends = array("I")  # characters of text once the token had been taken in
        self._runs = [_Run(0, TEXT, 0)]
        self._channel: Channel = TEXT  # of the last run
        self._heads: dict[Channel, CallHead] = {}
        self._lengths: dict[Channel, int] = {}  # characters of each channel in all runs but the last
        # (characters, tokens), replaced as one object: a reader never sees text without its tokens.
        self.published: tuple[int, int] = (0, 0)

    def append(self, segments: Iterable[Segment], tokens: list[int]) -> None:
        """Add the text of ``segments`` and the tokens that completed it. Either may be empty."""
        characters = self.published[0]
        for segment in segments:
            if segment.channel != self._channel and segment.text:
                if segment.head is not None:
                    self._heads[segment.channel] = segment.head
                self._begin_run(segment.channel, characters)
            characters += len(segment.text)
            self._store(segment.text)
        self._tokens.extend(tokens)
        self._ends.extend([characters] * len(tokens))
        self.published = (characters, len(self._tokens))

    def read(self, character: int, token: int, limit: int = CHUNK) -> Extract:
        """Text from ``character`` and tokens from ``token`` on: all that is published of a run, or a few thousand.

        The tokens are those whose text ends within the returned text, ``limit`` at most: then the text ends with them.
        """
        characters, tokens = self.published
        channel: Channel = TEXT
        offset, stop_at = character, characters
        if len(self._runs) > 1:
            channel, offset, stop_at = self._place(character, characters)
        chunk, skip = divmod(character, CHUNK)
        text = self._chunks[chunk][skip:][: stop_at - character]
        end = character + len(text)
        stop = token
        while stop < tokens and stop - token < limit and (end == characters or self._ends[stop] <= end):
            stop += 1
        if stop < tokens and stop - token == limit:
            text = text[: self._ends[stop - 1] - character]
        head = self._heads.get(channel) if text and not offset else None
        return Extract(channel, offset, text, self._tokens[token:stop].tolist(), self._text_before(character), head)

    @property
    def heads(self) -> list[CallHead]:
        """The tool calls that have begun, by index."""
        return list(self._heads.values())

    def text_of(self, channel: Channel = TEXT) -> str:
        """All text of ``channel``."""
        whole = "".join(self._chunks)
        ends = [*(run.begin for run in self._runs[1:]), len(whole)]
        return "".join(
            whole[run.begin : end] for run, end in zip(self._runs, ends, strict=True) if run.channel == channel
        )

    @property
    def text(self) -> str:
        """The text that ``generate`` answers."""
        return self.text_of(TEXT) if len(self._runs) > 1 else "".join(self._chunks)

    @property
    def tokens(self) -> list[int]:
        return self._tokens.tolist()

    def _store(self, text: str) -> None:
        if len(self._chunks[-1]) + len(text) < CHUNK:  # nearly always
            self._chunks[-1] += text
            return
        while text:
            room = CHUNK - len(self._chunks[-1])
            self._chunks[-1] += text[:room]
            text = text[room:]
            if len(self._chunks[-1]) == CHUNK:
                self._chunks.append("")

    def _begin_run(self, channel: Channel, begin: int) -> None:
        # Before its text is published, so that a reader finds the run of each character that it may read.
        last = self._runs[-1]
        self._lengths[last.channel] = last.offset + begin - last.begin
        self._runs.append(_Run(begin, channel, self._lengths.get(channel, 0)))
        self._channel = channel

    def _text_before(self, character: int) -> int:
        """The number of characters of the answer's own text before ``character`` of all channels."""
        at = bisect_right(self._runs, character, key=attrgetter("begin")) - 1
        behind = character
        while self._runs[at].channel != TEXT:  # the first run's is
            behind = self._runs[at].begin
            at -= 1
        return self._runs[at].offset + behind - self._runs[at].begin

    def _place(self, character: int, characters: int) -> tuple[Channel, int, int]:
        """Channel and offset of ``character``, and where its run ends, ``characters`` being published."""
        at = bisect_right(self._runs, character, key=attrgetter("begin")) - 1
        begin, channel, offset = self._runs[at]
        end = self._runs[at + 1].begin if at + 1 < len(self._runs) else characters
        return channel, offset + character - begin, min(end, characters)

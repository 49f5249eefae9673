"""The parser of chats sorts an answer into its text, its reasoning and its tool calls, as the model's formats tell."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from ..channels import REASONING, TEXT
from .calls.block import Block, BlockFormat, block_format
from .calls.open_call import CallLog
from .calls.source import SPACE, Markers, OutOfText, Reading, Source
from .calls.value_types import ToolTypes
from .formats.table import OutputFormats
from .formats.tool_format import ReasoningFormat
from .harmony import HarmonyReader
from .parser import Outcome, Segment
from .reasoning import Reasoning

_ID_ALPHABET: Final = string.ascii_letters + string.digits
_ID_LENGTH: Final = 9  # exactly as many as templates of Mistral ask for
_SPACE_BEHIND_REASONING: Final = 4  # characters that templates write there
_SPACE_BEFORE_CALLS: Final = 64  # characters that are held back
_END: Final = object()


def random_id() -> str:
    """A new id of a tool call."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def shown_tokens(formats: OutputFormats, *, calls: bool) -> frozenset[str]:
    """The texts of special tokens that a detokenizer must leave in the text for the parser of ``formats``.

    ``calls``: calls are looked for.
    """
    reasoning = formats.reasoning
    shown = {reasoning.begin.strip(), reasoning.end.strip(), *reasoning.tokens} if reasoning is not None else set()
    if formats.tools is not None and (calls or formats.tools.layout == "harmony"):
        shown.update(formats.tools.tokens)
    return frozenset(shown)


class ChatParser:
    """An ``OutputParser`` of one answer.

    ``tools``: those of the request; None or empty: no calls are looked for. ``thinking``: the prompt has opened the
    reasoning. ``new_id`` makes the ids of calls to which the model gave none.
    """

    def __init__(
        self,
        formats: OutputFormats,
        tools: Sequence[Mapping[str, Any]] | None,
        *,
        thinking: bool = False,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        self._source = Source()
        form = formats.tools
        self._log = CallLog(new_id, ToolTypes(tools or ()), of_tools_only=form is not None and not form.announced)
        self._layout = block_format(form) if form is not None and form.layout == "plain" and tools else None
        self._harmony = form is not None and form.layout == "harmony"
        self._calls = bool(tools)
        self._marks = formats.reasoning
        self._may_reason = self._harmony or formats.reasoning is not None
        self._reasoning = Reasoning(self._log)
        self._reasoning.open = thinking and formats.reasoning is not None
        self._behind_call = False  # nothing but white space has come since one
        self._space = ""  # not told yet, because a call may follow
        self._reading: Generator[None, None, None] | None = self._read()

    @property
    def one_by_one(self) -> bool:
        return self._may_reason

    @property
    def outcome(self) -> Outcome:
        log = self._log
        tokens = self._reasoning.tokens if self._harmony or self._marks is not None else None
        return Outcome(tuple(log.calls), tuple(log.unfinished), log.error, tokens)

    def push(self, text: str, tokens: list[int]) -> list[Segment]:
        if self._reading is None:
            return [Segment(TEXT, text)] if text else []
        passing = self._source.passing
        if passing is not None and text and passing.first not in text and text[-1] not in SPACE:
            if passing.channel == REASONING:
                self._reasoning.tokens += len(tokens)
            self._behind_call = False
            return [Segment(passing.channel, text)]
        reasoning, begins = self._reasoning.open, self._source.end
        self._source.feed(text)
        self._resume()
        if reasoning:
            self._reasoning.count(len(tokens), self._source, begins)
        return self._told()

    def finish(self, *, cut: bool) -> list[Segment]:
        self._source.ended = True
        self._log.cut = cut
        self._resume()
        return self._told()

    def _resume(self) -> None:
        """Read on as far as the text allows."""
        self._source.passing = None
        if self._reading is not None and next(self._reading, _END) is _END:
            self._reading = None

    def _told(self) -> list[Segment]:
        """The segments that wait; those next to each other of one channel are one."""
        segments, self._log.segments = self._log.segments, []
        if len(segments) < 2:
            return segments
        runs = (list(run) for _, run in groupby(segments, attrgetter("channel")))
        return [Segment(run[0].channel, "".join(part.text for part in run), run[0].head) for run in runs]

    def _read(self) -> Reading[None]:
        if self._harmony:
            yield from HarmonyReader(self._source, self._log, self._reasoning, calls=self._calls).read()
            return
        if self._marks is not None:
            yield from self._read_reasoning(self._marks)
        if self._layout is not None:
            yield from self._read_text(self._layout)
        self._log.write(self._space + self._source.rest())

    def _read_reasoning(self, marks: ReasoningFormat) -> Reading[None]:
        """Read the reasoning, if there is any, and the white space behind it."""
        source = self._source
        try:
            begun = marks.begin if self._reasoning.open else (yield from self._first_marker(marks))
            if begun is None:
                return
            if begun == marks.begin:
                yield from self._reasoning.read(source, Markers(marks.end))
            for _ in range(_SPACE_BEHIND_REASONING):
                if (yield from source.next()) not in " \n":
                    break
                source.at += 1
        except OutOfText:
            return
        finally:
            self._may_reason = False

    def _first_marker(self, marks: ReasoningFormat) -> Reading[str | None]:
        """Read the marker of reasoning at the beginning of the answer: a lone end marker counts as empty reasoning."""
        self._source.keep()
        found = None
        try:
            found = yield from self._source.one_of((marks.begin, marks.end))
        finally:
            space = self._source.kept()
            self._space = space if found is None else ""
        return found

    def _read_text(self, layout: BlockFormat) -> Reading[None]:
        """Read the text and the blocks of calls in it."""
        source = self._source
        if not layout.form.announced:
            yield from self._read_block(layout, "")
        if layout.trigger is None:
            yield from self._skip_space_at_the_end()
            return
        triggers = Markers(layout.trigger)
        while True:
            try:
                more, trigger = yield from source.passage(triggers)
            except OutOfText:
                if self._behind_call and source.position == source.end:
                    self._space = ""
                return
            self._write(more)
            if trigger is not None:
                yield from self._read_block(layout, trigger)
            elif not self._space:
                source.passes(TEXT, triggers)

    def _read_block(self, layout: BlockFormat, trigger: str) -> Reading[None]:
        """Read a block, if there is one, behind its trigger."""
        self._source.keep(self._space + trigger)
        self._space = ""
        self._behind_call = yield from Block(layout, self._source, self._log, announced=bool(trigger)).read()
        self._space = self._source.kept()

    def _skip_space_at_the_end(self) -> Reading[None]:
        """Leave out white space behind a call if nothing follows."""
        if not self._behind_call:
            return
        self._source.keep(self._space)
        self._space = ""
        try:
            yield from self._source.skip_space()
        except OutOfText:
            self._source.kept()
        else:
            self._space = self._source.kept()

    def _write(self, more: str) -> None:
        """Tell more text but white space at its end, which may stand before a call."""
        text = self._space + more
        words = text[: max(len(text.rstrip(SPACE)), len(text) - _SPACE_BEFORE_CALLS)]
        self._space = text[len(words) :]
        if words:
            self._behind_call = False
            self._log.write(words)

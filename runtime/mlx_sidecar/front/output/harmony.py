"""The reader of harmony, whose answers are messages, each with a header that says what it is."""

from __future__ import annotations

import re
from typing import Final

from .calls.json_bodies import pass_object
from .calls.open_call import CallLog, OpenCall
from .calls.source import Markers, NotACall, OutOfText, Reading, Source
from .reasoning import Reasoning

_MAX_HEADER: Final = 512  # characters

_HEADER = ("<|channel|>", "<|start|>", "<|constrain|>", "<|message|>", "to=")
_BODY = Markers("<|message|>")
_END = Markers("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")
_END_OF_REASONING = Markers("<|end|>")
_NEXT = Markers("<|start|>", "<|channel|>")
_FUNCTION = re.compile(r"\bto=functions\.([^\s<]+)")
_ANALYSIS = re.compile(r"<\|channel\|>\s*analysis\b")


class HarmonyReader:
    """Reads an answer. ``calls``: messages to functions are tool calls; without it they are text."""

    def __init__(self, source: Source, log: CallLog, reasoning: Reasoning, *, calls: bool) -> None:
        self._source = source
        self._log = log
        self._reasoning = reasoning
        self._calls = calls

    def read(self) -> Reading[None]:
        """Read all messages. The prompt has the beginning of the first one's header."""
        source = self._source
        try:
            source.keep()
            if (yield from source.one_of(_HEADER)) is None:
                self._log.write(source.kept())
            else:
                yield from self._message()
            while True:
                text, begun = yield from source.passage(_NEXT)
                self._log.write(text)
                if begun is not None:
                    source.keep(begun)
                    yield from self._message()
        except OutOfText:
            self._end()

    def _message(self) -> Reading[None]:
        """Read a message, the source keeping the beginning of its header."""
        source = self._source
        length, body = 0, None
        while body is None:
            text, body = yield from source.passage(_BODY)
            length += len(text)
            if length > _MAX_HEADER:
                self._log.write(source.kept())
                return
        header = source.kept()
        function = _FUNCTION.search(header) if self._calls else None
        if function is not None:
            source.keep(header)
            yield from self._call(function[1])
        elif _ANALYSIS.search(header):
            yield from self._reasoning.read(source, _END_OF_REASONING)
        else:
            yield from self._text()

    def _text(self) -> Reading[None]:
        end = None
        while end is None:
            text, end = yield from self._source.passage(_END)
            self._log.write(text)
        self._unread(end)

    def _call(self, name: str) -> Reading[None]:
        source, call = self._source, OpenCall(self._log)
        try:
            call.named(name)
            yield from pass_object(source, call)
            if not (yield from source.stands(_END.texts)):
                raise NotACall(f"{source.text[source.at]!r} behind its arguments")
            yield from self._skip()
        except NotACall as why:
            yield from self._not_a_call(call, str(why))
        except OutOfText:
            call.cut_off(source.kept_to_end())
            raise
        else:
            source.kept()
            call.whole()

    def _not_a_call(self, call: OpenCall, why: str) -> Reading[None]:
        self._log.failed(why)
        if call.index is None:
            self._log.write(self._source.kept())
            return
        try:
            yield from self._skip()
        except OutOfText:
            call.broken_off(self._source.kept_to_end())
            raise
        call.broken_off(self._source.kept())

    def _skip(self) -> Reading[None]:
        """Read to the end of the message."""
        end = None
        while end is None:
            _, end = yield from self._source.passage(_END)
        self._unread(end)

    def _unread(self, end: str) -> None:
        if end in _NEXT.texts:
            self._source.at -= len(end)

    def _end(self) -> None:
        """The output has ended. A header without a message is told as no text, but for one of a call."""
        source = self._source
        if not source.keeps:
            self._log.write(source.rest())
            return
        header = source.kept_to_end()
        if self._calls and _FUNCTION.search(header):
            OpenCall(self._log).cut_off(header)
        elif not any(mark in header for mark in _HEADER):
            self._log.write(header)

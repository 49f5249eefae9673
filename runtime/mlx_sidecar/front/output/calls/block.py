"""A block is a run of tool calls, as a format of the table writes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, Protocol

from ..formats.tool_format import Bare, JsonArguments, JsonObject, Parameters, Pythonic, ToolFormat
from .json_bodies import ArgumentsReader, ObjectReader
from .literal_bodies import LiteralsReader
from .literals import PYTHON, Syntax
from .open_call import CallLog, OpenCall
from .parameters import ParametersReader
from .source import SPACE, Markers, NotACall, OutOfText, Reading, Source, pieces

_Next = Literal["over", "next", "another"]


class BodyReader(Protocol):
    """Reads a call from behind ``open`` to before ``close``."""

    def read(self, source: Source, call: OpenCall) -> Reading[None]: ...


class BlockFormat:
    """The texts of a format as the parser looks for them. ``trigger`` announces a block, None if nothing does."""

    def __init__(self, form: ToolFormat) -> None:
        self.form = form
        self.begin, self.open, self.close, self.between, self.end = (
            pieces(text, form.tokens) for text in (form.begin, form.open, form.close, form.between, form.end)
        )
        if form.suffix:
            self.end += (form.suffix,)
        first = self.begin + self.open
        self.trigger = first[0] if form.announced else form.prefix or None
        self.lead = first[1:] if form.announced else first  # behind the trigger
        # Where a call that cannot be read on may end. One character is no sign of that.
        endings = (*self.close[-1:], *self.end[-1:], *([self.trigger] if self.trigger else []))
        self.endings = Markers(*(text for text in endings if len(text) > 1))
        self.body = self._body()

    def _body(self) -> BodyReader:
        after_name = pieces(self.form.after_name, self.form.tokens)
        match self.form.body:
            case JsonObject() as body:
                return ObjectReader(body, self.close, strict=not self.form.announced)
            case JsonArguments() as body:
                return ArgumentsReader(body, pieces(self.form.before_id), after_name)
            case Parameters() as body:
                return ParametersReader(body, after_name, self.close)
            case Pythonic():
                return LiteralsReader(PYTHON)
            case Bare(quote):
                return LiteralsReader(Syntax(quote))


@cache
def block_format(form: ToolFormat) -> BlockFormat:
    """The one ``BlockFormat`` of ``form``."""
    return BlockFormat(form)


class Block:
    """Reads one block from behind its trigger, if that has ``announced`` it; the source keeps what was read of it."""

    def __init__(self, layout: BlockFormat, source: Source, log: CallLog, *, announced: bool) -> None:
        self._layout = layout
        self._announced = announced
        self._source = source
        self._log = log
        self._found = False

    def read(self) -> Reading[bool]:
        """Read all calls, and tell as text what begins like a call and is none. Whether it ended with a call."""
        layout = self._layout
        lead = layout.lead
        then: _Next = "next"
        while then != "over":
            then = yield from self._call(lead)
            self._found = self._found or then != "over"
            lead = () if then == "another" else layout.open
            if then == "next" and not (yield from self._goes_on()):
                break
        return self._found

    def _call(self, lead: Sequence[str]) -> Reading[_Next]:
        """Read one call: whether the block may go on behind it, ``another`` if without a separator."""
        layout, source, call = self._layout, self._source, OpenCall(self._log)
        then: _Next = "next"
        try:
            yield from source.expect(lead)
            yield from layout.body.read(source, call)
            if isinstance(layout.form.body, JsonObject) and layout.close and (yield from source.skip_space()) == "{":
                then = "another"
            else:
                yield from source.expect(layout.close)
        except NotACall as why:
            return (yield from self._not_a_call(call, str(why)))
        except OutOfText:
            self._cut_off(call)
            return "over"
        call.whole()
        source.keep()
        return then

    def _not_a_call(self, call: OpenCall, why: str) -> Reading[_Next]:
        """Give ``call`` back as text, or tell that it is broken if some of it was told."""
        if call.index is not None:
            self._log.failed(why)
            return (yield from self._skip(call))
        if self._announced or self._found:
            self._log.failed(why)
        self._found = False  # not directly before what follows
        self._log.write(self._source.kept())
        return "over"

    def _skip(self, call: OpenCall) -> Reading[_Next]:
        """Read to the end of a call that is broken."""
        source, layout = self._source, self._layout
        self._found = True
        found = None
        try:
            while found is None:
                _, found = yield from source.passage(layout.endings)
        except OutOfText:
            source.rest()
        if found == layout.trigger and found is not None:
            source.at -= len(found)
        call.broken_off(source.kept())
        source.keep()
        return "next" if found in layout.close[-1:] else "over"

    def _cut_off(self, call: OpenCall) -> None:
        """The output ended in ``call``. Where nothing tells that one has begun, it is text."""
        text = self._source.kept_to_end()
        if self._found and text.strip(SPACE) in ("", *self._layout.between):
            return
        if call.index is not None or self._announced or self._found:
            self._found = True
            call.cut_off(text)
        else:
            self._log.write(text)

    def _goes_on(self) -> Reading[bool]:
        """Whether another call of the block follows; if not, its end is read, or else the source keeps what was."""
        layout, source = self._layout, self._source
        if not layout.begin and layout.form.announced:
            return False
        try:
            found = yield from source.one_of(layout.end[:1] + layout.between[:1])
            if found is None:
                return not layout.between
            if found in layout.between[:1]:  # which is one piece in every format
                return True
            for piece in layout.end[1:]:
                source.keep()
                if (yield from source.one_of((piece,))) is None:
                    return False
            source.kept()
        except OutOfText:
            source.kept_to_end()
        return False

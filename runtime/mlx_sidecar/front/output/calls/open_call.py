"""An open call is a tool call that is being read: its head is told with the first of its arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ...channels import TEXT, CallHead, Channel
from ..parser import Segment, Unfinished
from .source import SPACE, NotACall, Reading, Source
from .value_types import ToolTypes, Types

MAX_NAME: Final = 256  # characters
_NAME = re.compile(r"[\w.:/-]*")


@dataclass
class CallLog:
    """The findings of one answer. ``segments``: those that have not been told yet.

    ``types``: of the request's tools. ``of_tools_only``: other names are no calls. ``cut``: the model did not end its
    turn itself.
    """

    new_id: Callable[[], str]
    types: ToolTypes
    of_tools_only: bool = False
    cut: bool = False
    segments: list[Segment] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    unfinished: list[Unfinished] = field(default_factory=list)
    error: str | None = None

    def write(self, text: str, channel: Channel = TEXT) -> None:
        if text:
            self.segments.append(Segment(channel, text))

    def begin(self, name: str, call_id: str | None) -> tuple[int, CallHead]:
        """The index and head of a new call. ``call_id``: the model's own, which counts unless it was there before."""
        if not call_id or call_id in self.ids:
            call_id = self.new_id()
        self.ids.append(call_id)
        return len(self.ids) - 1, CallHead(call_id, name)

    def failed(self, why: str) -> None:
        """Something is no call, or no whole one; the first reason is told."""
        self.error = self.error or why


def is_name(text: str) -> bool:
    """Whether ``text`` is what a tool may be called."""
    return 0 < len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def read_name(source: Source) -> Reading[str]:
    """Read the characters that may be of a name."""
    yield from source.skip_space()
    return (yield from source.run(_NAME, MAX_NAME))


class OpenCall:
    """One call. ``index`` is None until its head is told; ``complete``: its arguments are whole."""

    def __init__(self, log: CallLog) -> None:
        self._log = log
        self.index: int | None = None
        self.name: str | None = None
        self.call_id: str | None = None
        self.complete = False

    def named(self, name: str) -> None:
        """Take its name. Raises NotACall for a text that is none, or that is no tool's where that is asked."""
        if not is_name(name):
            raise NotACall(f"{name[:40]!r} is no name of a tool")
        if self._log.of_tools_only and name not in self._log.types.names:
            raise NotACall(f"{name[:40]!r} is none of the tools")
        self.name = name

    def types_of(self, parameter: str) -> Types | None:
        """The types of one of its parameters; None if no schema says."""
        return self._log.types.of(self.name or "", parameter)

    def write(self, text: str) -> None:
        """Tell more of its arguments, JSON text."""
        if not text:
            return
        head = None
        if self.index is None:
            assert self.name is not None
            self.index, head = self._log.begin(self.name, self.call_id)
        self._log.segments.append(Segment(self.index, text, head))

    def whole(self) -> None:
        """All of the call was read."""
        assert self.index is not None
        self._log.calls.append(self.index)

    def broken_off(self, text: str) -> None:
        """The call is not whole; ``text`` is what the model wrote for it."""
        self._log.unfinished.append(Unfinished(text.strip(SPACE), self.index))

    def cut_off(self, text: str) -> None:
        """The answer has ended: the call is whole if the model ended it, and only markers are missing."""
        if not self._log.cut and self.complete:
            self.whole()
            return
        if not self._log.cut:
            self._log.failed("the answer ends within a call")
        self.broken_off(text)

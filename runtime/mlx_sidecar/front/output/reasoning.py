"""The reasoning of an answer: its text is told, and its tokens are counted."""

from __future__ import annotations

from typing import Final

from ..channels import REASONING
from .calls.open_call import CallLog
from .calls.source import SPACE, Markers, OutOfText, Reading, Source

_MAX_BLANK: Final = 64  # characters


class Reasoning:
    """The reasoning of one answer. ``open``: what comes next is more of it, or its end marker.

    ``tokens`` counts those from behind the begin marker to before the first one of the end marker.
    """

    def __init__(self, log: CallLog) -> None:
        self._log = log
        self._begun = False
        self._blank = ""  # white space at its beginning, which is told with what follows
        self._held = 0  # tokens that may be of the end marker
        self._ends_at = 0  # the position of the last end marker
        self.open = False
        self.tokens = 0

    def read(self, source: Source, end: Markers) -> Reading[str]:
        """Read up to the end of reasoning that has begun: its end marker. White space alone is told as no reasoning."""
        self.open = True
        self._begun = False
        self._blank = ""
        while True:
            try:
                text, marker = yield from source.passage(end)
            except OutOfText:
                self._write(source.rest())
                self._count_held()
                raise
            self._write(text)
            if marker is not None:
                self._ends_at = source.position - len(marker)
                self.open = False
                return marker
            if self._begun:
                source.passes(REASONING, end)

    def count(self, tokens: int, source: Source, begins: int) -> None:
        """Count ``tokens``, whose text began at the position ``begins`` while reasoning was open."""
        if not self.open:
            marker: int | None = self._ends_at
        else:
            marker = source.position if source.position < source.end else None  # the beginning of what may be one
        if marker is None or marker >= begins:
            self._count_held()
        if marker is None:
            self.tokens += tokens
        elif self.open:
            self._held += tokens
        else:
            self._held = 0

    def _count_held(self) -> None:
        self.tokens += self._held
        self._held = 0

    def _write(self, text: str) -> None:
        if self._begun:
            self._log.write(text, REASONING)
            return
        self._blank += text
        self._begun = bool(self._blank.strip(SPACE)) or len(self._blank) > _MAX_BLANK
        if self._begun:
            self._log.write(self._blank, REASONING)
            self._blank = ""

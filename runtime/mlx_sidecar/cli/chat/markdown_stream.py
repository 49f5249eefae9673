"""Markdown on a terminal while it is being written: what cannot change any more stands, the rest is drawn anew."""

from __future__ import annotations

import re
import time
from math import ceil

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len
from rich.console import Console
from rich.markdown import Markdown

from ..terminal_text import harmless

_EVERY_S = 0.05  # between two drawings: more are not seen, and each parses the block that is open
_STYLE = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;.*?\x1b\\")

# Without HTML, which a terminal cannot show: a tag is text.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


class MarkdownStream:
    """An answer that grows by ``push`` and ends by ``finish``. Until then the cursor stands behind its last line.

    The open block, which is the last one, is drawn again when it changes, from the first line that differs. Lines
    that have left the screen stay as they were, because no terminal lets them be changed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open = ""  # the text of the block that may still change
        self._standing = 0  # lines of that block that stand for good
        self._drawn: list[str] = []  # lines below them, on the screen
        self._begun = False  # whether a block stands above
        self._drawn_at = 0.0

    def push(self, text: str) -> None:
        """Add ``text``, and draw it unless the last drawing is very fresh."""
        self._open += harmless(text)
        if time.monotonic() - self._drawn_at >= _EVERY_S:
            self._draw()

    def status(self, line: str, *, quickly: bool = False) -> None:
        """Show ``line``, dimmed, where the text will begin; ``quickly``: unless the last drawing is very fresh."""
        if not quickly or time.monotonic() - self._drawn_at >= _EVERY_S:
            self._drawn_at = time.monotonic()
            self._show([self._rendered_plain(line)])

    def stand(self, line: str) -> None:
        """Leave ``line``, dimmed, above the text that comes."""
        self._stand([self._rendered_plain(line), ""])

    def finish(self) -> None:
        """Draw what is left, and leave the cursor on a new line."""
        self._draw()
        if self._drawn:
            self._console.file.write("\n")
        self._console.file.flush()
        self._drawn, self._open = [], ""

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        if (closed := _closed(self._open)) > 0:
            lines = self._lines(self._open[:closed])
            self._stand([*lines[self._standing :], ""])
            self._open, self._standing, self._begun = self._open[closed:], 0, True
        lines = self._lines(self._open)[self._standing :]
        # One line is left for the cursor of a terminal that has moved on to the next.
        if (above := len(lines) - max(1, self._console.height - 2)) > 0:
            self._stand(lines[:above])
            self._standing += above
            lines = lines[above:]
        self._show(lines)

    def _stand(self, lines: list[str]) -> None:
        """Draw ``lines`` for good, in the place of those that are drawn."""
        self._show(lines)
        if lines:
            self._console.file.write("\n")
        self._drawn = []

    def _show(self, lines: list[str]) -> None:
        """Turn the lines on the screen into ``lines``, from the first that differs."""
        same = 0
        while same < min(len(lines), len(self._drawn)) and lines[same] == self._drawn[same]:
            same += 1
        if same == len(lines) == len(self._drawn):
            return
        out, gone = self._console.file, self._drawn[same:]
        if gone:
            if (up := sum(map(self._rows, gone)) - 1) > 0:
                out.write(f"\x1b[{up}A")
            out.write("\r\x1b[J")
        elif self._drawn:
            out.write("\n")
        if same == len(lines) and same:  # lines went, and none came: back to the end of the last
            out.write(f"\x1b[{self._rows(lines[-1])}A\r{lines[-1]}")
        out.write("\n".join(lines[same:]))
        out.flush()
        self._drawn = lines

    def _rows(self, line: str) -> int:
        """The rows that a line takes on a terminal of the present width, which may not be the one it was drawn for."""
        return max(1, ceil(cell_len(_STYLE.sub("", line)) / self._console.width))

    def _lines(self, text: str) -> list[str]:
        """``text`` as lines with their styles; between two blocks there is a blank one."""
        lines: list[str] = []
        for block in _blocks(text):
            lines += ["", *self._block(block)] if lines else self._block(block)
        return lines

    def _block(self, tokens: list[Token]) -> list[str]:
        """The lines of one block, without the blank ones that rich puts around some kinds."""
        shown = Markdown("", code_theme="ansi_dark", hyperlinks=False)
        shown.parsed = tokens
        with self._console.capture() as captured:
            self._console.print(shown)
        lines = [line if _STYLE.sub("", line).strip() else "" for line in captured.get().split("\n")]
        inked = [at for at, line in enumerate(lines) if line]
        return lines[inked[0] : inked[-1] + 1] if inked else []

    def _rendered_plain(self, line: str) -> str:
        with self._console.capture() as captured:
            self._console.print(
                line, style="dim", markup=False, highlight=False, end="", overflow="ellipsis", no_wrap=True
            )
        return captured.get()


def _blocks(text: str) -> list[list[Token]]:
    """The tokens of each block of ``text``; a line break is kept as one, because models mean theirs."""
    blocks: list[list[Token]] = [[]]
    for token in _PARSER.parse(text):
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
        blocks[-1].append(token)
        if token.level == 0 and token.nesting <= 0:
            blocks.append([])
    return blocks[:-1]


def _closed(text: str) -> int:
    """The length of the beginning of ``text`` whose blocks are closed: another one has begun behind them."""
    begins = [token.map[0] for token in _PARSER.parse(text) if token.level == 0 and token.map]
    if len(begins) < 2:
        return 0
    return sum(len(line) + 1 for line in text.split("\n")[: begins[-1]])

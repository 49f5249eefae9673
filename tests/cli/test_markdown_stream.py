"""Markdown that is drawn while it grows ends as Markdown that is drawn at once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyte
import pyte.modes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mlx_sidecar.cli.chat import markdown_stream
from mlx_sidecar.cli.chat.markdown_stream import MarkdownStream

BLOCKS = (
    "A paragraph of a few words that does not fit into one line of a narrow terminal.",
    "**Bold** and `code`, *not closed\nand a second line",
    "# A heading",
    "- one\n- two with more words than a line\n  1. nested",
    "```python\ndef f(x):\n    return x + 1\n```",
    "| a | b |\n|---|---|\n| 1 | a longer cell |",
    "> quoted <b>tags</b> & [link](http://x)",
    "中文 wide characters 🙂",
)


@pytest.fixture(autouse=True)
def _draw_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown_stream, "_EVERY_S", 0.0)


def lines(pieces: Sequence[str], columns: int, rows: int = 70) -> list[str]:
    """The lines on a terminal after ``pieces``, those above the screen as well."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=columns, height=rows, highlight=False)
    stream = MarkdownStream(console)
    stream.status("reading the prompt")
    for piece in pieces:
        stream.push(piece)
    stream.finish()
    screen = pyte.HistoryScreen(columns, rows, history=10_000)
    screen.set_mode(pyte.modes.LNM)  # what a terminal's driver makes of a line feed
    pyte.Stream(screen).feed(out.getvalue())
    above = ["".join(row[column].data for column in range(columns)) for row in screen.history.top]
    return [line.rstrip() for line in (*above, *screen.display)]


def cut(text: str, data: Any) -> list[str]:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]


@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4), st.integers(24, 100), st.data())
@settings(deadline=None, max_examples=25)
def test_the_pieces_in_which_a_text_comes_change_nothing_of_what_stands_in_the_end(
    blocks: list[str], columns: int, data: Any
) -> None:
    text = "\n\n".join(blocks)
    assert lines(cut(text, data), columns) == lines([text], columns)


@given(st.integers(3, 12), st.integers(20, 60))
@settings(deadline=None, max_examples=8)
def test_a_block_longer_than_the_screen_loses_no_line(rows: int, columns: int) -> None:
    code = [f"line_{number}" for number in range(40)]
    pieces = ["```\n", *(f"{line}\n" for line in code), "```\n"]
    shown = [line.strip() for line in lines(pieces, columns, rows)]
    assert [line for line in shown if line] == code


def test_words_are_whole_and_tags_and_line_breaks_are_kept() -> None:
    shown = lines(["alpha beta gam", "ma <i>delta</i>\nepsilon"], 20)
    assert [line for line in shown if line] == ["alpha beta gamma", "<i>delta</i>", "epsilon"]


def test_a_model_cannot_command_the_terminal() -> None:
    assert "\ufffd[2Jx" in lines(["\x1b[2Jx"], 20)

"""The picture in the README is what ``chat`` draws. To write it anew: WRITE_SCREENSHOT=1 pytest FILE."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pyte

from tests.clients.neovim.screen import Cell, Colours, Screen
from tests.clients.neovim.svg import picture
from tests.support.sidecar import ROOT
from tests.support.terminal import ENTER, terminal

PICTURE = ROOT / "docs" / "plots" / "chat.svg"
FOREGROUND, BACKGROUND = 0xCDD6F4, 0x1E1E2E
PALETTE = {
    "black": 0x45475A,
    "red": 0xF38BA8,
    "green": 0xA6E3A1,
    "brown": 0xF9E2AF,
    "blue": 0x89B4FA,
    "magenta": 0xCBA6F7,
    "cyan": 0x94E2D5,
    "white": 0xBAC2DE,
    "brightblack": 0x7F849C,
}
MEASURED = re.compile(r"<text[^>]*>[^<]*first after[^<]*</text>")  # times of this run, on this machine


def coloured(char: pyte.screens.Char) -> Colours:
    ground = {"foreground": (char.fg, FOREGROUND), "background": (char.bg, BACKGROUND)}
    style: dict[str, Any] = {name: colour(*value) for name, value in ground.items()}
    return {**style, "bold": char.bold, "italic": char.italics, "reverse": char.reverse}


def colour(name: str, default: int) -> int:
    if name == "default":
        return default
    return PALETTE[name] if name in PALETTE else int(name, 16)


def drawn(screen: pyte.Screen) -> str:
    """The screen as SVG, up to its last line that is not blank."""
    rows = max(row for row in range(screen.lines) if screen.display[row].strip()) + 1
    styles: list[Colours] = []
    shown = Screen(screen.columns, rows, default={"foreground": FOREGROUND, "background": BACKGROUND})
    for row in range(rows):
        for column in range(screen.columns):
            char = screen.buffer[row][column]
            style = coloured(char)
            if style not in styles:
                styles.append(style)
            shown.rows[row][column] = Cell(char.data, styles.index(style))
    shown.styles = dict(enumerate(styles))
    shown.cursor = (screen.cursor.y, screen.cursor.x)
    return picture(shown)


def test_the_picture_in_the_readme_is_current(tmp_path: Path) -> None:
    with terminal("chat", XDG_STATE_HOME=str(tmp_path), columns=84, rows=20) as running:
        running.wait_for("tokens · /help")
        for number, question in enumerate(("What is mlx-sidecar?", "How do I stream from Python?"), 1):
            running.type(question + ENTER)
            running.wait_for("new tokens", number)
        running.type("/s")
        running.wait_for("/system")
        running.wait_for("/stats")
        svg = drawn(running.screen)
    if "WRITE_SCREENSHOT" in os.environ:
        PICTURE.write_text(svg, encoding="utf-8")
    assert MEASURED.sub("", PICTURE.read_text(encoding="utf-8")) == MEASURED.sub("", svg)

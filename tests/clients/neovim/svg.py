"""A picture of a screen: the same cells give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from tests.clients.neovim.screen import Cell, Colours, Screen

CELL_WIDTH, CELL_HEIGHT, BASELINE, MARGIN = 9, 19, 14, 12
FONTS = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"


def _colour(number: int) -> str:
    return f"#{number:06x}"


def _style(screen: Screen, cell: Cell) -> Colours:
    """Foreground, background and shape of a cell, with what is left open filled in."""
    style = {**screen.default, **screen.styles.get(cell.style, {})}
    if style.get("reverse"):
        style["foreground"], style["background"] = style["background"], style["foreground"]
    return style


def _runs(screen: Screen, row: int) -> Iterator[tuple[int, int, str, Colours]]:
    """Column, width in cells, text and style of the parts of a row that look alike."""
    column = 0
    for number, cells in groupby(screen.rows[row], key=lambda cell: cell.style):
        run = list(cells)
        yield column, len(run), "".join(cell.text for cell in run), _style(screen, Cell(style=number))
        column += len(run)


def _text(x: int, y: int, width: int, text: str, style: Colours) -> str:
    shape = ' font-style="italic"' if style.get("italic") else ""
    shape += ' font-weight="bold"' if style.get("bold") else ""
    return (
        f'<text x="{x}" y="{y + BASELINE}" textLength="{width}" lengthAdjust="spacingAndGlyphs"'
        f' fill="{_colour(style["foreground"])}"{shape}>{escape(text)}</text>'
    )


def _row(screen: Screen, row: int) -> Iterator[str]:
    y = MARGIN + row * CELL_HEIGHT
    for column, cells, text, style in _runs(screen, row):
        x, width = MARGIN + column * CELL_WIDTH, cells * CELL_WIDTH
        if style["background"] != screen.default["background"]:
            fill = _colour(style["background"])
            yield f'<rect x="{x}" y="{y}" width="{width}" height="{CELL_HEIGHT}" fill="{fill}"/>'
        blank = len(text) - len(text.lstrip())
        if shown := text.strip():
            wide = (cells - blank - (len(text) - len(text.rstrip()))) * CELL_WIDTH
            yield _text(x + blank * CELL_WIDTH, y, wide, shown, style)


def _cursor(screen: Screen) -> str:
    row, column = screen.cursor
    x, y = MARGIN + column * CELL_WIDTH, MARGIN + row * CELL_HEIGHT
    return f'<rect x="{x}" y="{y}" width="2" height="{CELL_HEIGHT}" fill="{_colour(screen.default["foreground"])}"/>'


def picture(screen: Screen) -> str:
    """The screen as SVG, with the cursor of Insert mode."""
    width, height = screen.width * CELL_WIDTH + 2 * MARGIN, screen.height * CELL_HEIGHT + 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" rx="8" fill="{_colour(screen.default["background"])}"/>',
        f'<g font-family="{FONTS}" font-size="15" xml:space="preserve">',
    ]
    for row in range(screen.height):
        lines.extend(_row(screen, row))
    return "\n".join([*lines, "</g>", _cursor(screen), "</svg>", ""])

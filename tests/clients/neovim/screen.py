"""The screen that Neovim draws: its grid, kept up to date from `redraw` events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Colours = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One cell. The right half of a wide character has no text."""

    text: str = " "
    style: int = 0


@dataclass
class Screen:
    """The global grid of one attached user interface."""

    width: int
    height: int
    styles: dict[int, Colours] = field(default_factory=lambda: {0: {}})
    default: Colours = field(default_factory=dict)
    cursor: tuple[int, int] = (0, 0)
    mode: str = "normal"

    def __post_init__(self) -> None:
        self.rows = [[Cell()] * self.width for _ in range(self.height)]

    def take(self, name: str, arguments: list[Any]) -> None:
        """One event; those that are about something else are ignored."""
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None:
            handler(*arguments)

    def lines(self) -> list[str]:
        """The text of each row, without blanks at its end."""
        return ["".join(cell.text for cell in row).rstrip() for row in self.rows]

    def styled(self, row: int, **wanted: Any) -> str:
        """The text of those cells of a row whose highlighting has these attributes."""
        return "".join(
            cell.text for cell in self.rows[row] if wanted.items() <= self.styles.get(cell.style, {}).items()
        )

    def _on_grid_resize(self, _grid: int, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.__post_init__()

    def _on_grid_clear(self, _grid: int) -> None:
        self.__post_init__()

    def _on_grid_line(self, _grid: int, row: int, column: int, cells: list[list[Any]], *_wrap: bool) -> None:
        style = 0
        for text, *more in cells:
            style = more[0] if more else style
            for _ in range(more[1] if len(more) > 1 else 1):
                self.rows[row][column] = Cell(text, style)
                column += 1

    def _on_grid_scroll(
        self, _grid: int, top: int, bottom: int, left: int, right: int, rows: int, _columns: int
    ) -> None:
        before = [list(row) for row in self.rows]
        for row in range(max(top, top - rows), min(bottom, bottom - rows)):
            self.rows[row][left:right] = before[row + rows][left:right]

    def _on_grid_cursor_goto(self, _grid: int, row: int, column: int) -> None:
        self.cursor = (row, column)

    def _on_hl_attr_define(self, number: int, colours: Colours, _terminal: Colours, _info: list[Any]) -> None:
        self.styles[number] = colours

    def _on_default_colors_set(self, foreground: int, background: int, special: int, *_terminal: int) -> None:
        self.default = {"foreground": foreground, "background": background, "special": special}

    def _on_mode_change(self, mode: str, _number: int) -> None:
        self.mode = mode

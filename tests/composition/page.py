"""Writes the table of docs/composition.md: python -m tests.composition.page."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from .features import ALTERNATIVES, FEATURES, REFUSED, Pair, symbol

PAGE = Path(__file__).parents[2] / "docs" / "composition.md"
_BEGIN, _END = (
    "<!-- The table begins: python -m tests.composition.page writes it. -->\n\n",
    "\n<!-- The table ends. -->",
)


def table() -> str:
    """Return the table of all pairs with the reasons below it."""
    reasons: dict[str, str] = {}
    letters = map("abcdefgh".__getitem__, count())
    numbers = range(1, len(FEATURES) + 1)
    lines = [
        f"| | | {' | '.join(map(str, numbers[:-1]))} |",
        f"|---|---|{'---|' * (len(FEATURES) - 1)}",
    ]
    for row, feature in enumerate(FEATURES):
        cells: list[str] = []
        for column in FEATURES[:row]:
            pair = Pair({feature.name, column.name})
            reason = REFUSED.get(pair) or ALTERNATIVES.get(pair)
            if reason is not None and reason not in reasons:
                reasons[reason] = next(letters)
            cells.append(symbol(pair) if reason is None else reasons[reason])
        cells += [""] * (len(FEATURES) - 1 - len(cells))
        lines.append(f"| {row + 1} | {feature.name}: {feature.how} | {' | '.join(cells)} |")
    told = [f"- {letter}: {reason}." for reason, letter in reasons.items()]
    return "\n".join([*lines, "", *told, ""])


def with_table(page: str) -> str:
    """Return ``page`` with the table as it is now."""
    head, _, rest = page.partition(_BEGIN)
    return head + _BEGIN + table() + _END + rest.partition(_END)[2]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

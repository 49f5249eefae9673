"""What a part of the fault run hands back, and docs/faults.md, which holds them all."""

from __future__ import annotations

from typing import NamedTuple

from ..measure import Row


class Report(NamedTuple):
    """``rows`` for the table; ``broken`` says in words, one line each, which promises were not kept."""

    rows: list[Row]
    broken: list[str]

"""The reports of the parts of the fault run, and docs/faults.md, which holds them all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..measure import Row, machine, table

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
_SHOWN = 20  # broken promises

HEAD = """\
# Faults

*For those who ask what was broken on purpose, and how it went.*

Written by `make faults`; each part alone: `python -m benchmarks.faults PART --write`. The moments of the faults and all
requests come from a seed. Every frame that a host reads is checked: one answer to each request, deltas without gaps
that add up to it, a `stream/interrupted` before a stream goes on elsewhere. A text differs if it is not that of the
same request on an engine that nobody disturbed. Faults under a gateway are written by
`python -m benchmarks.gateway.faults --write`.
"""


@dataclass(frozen=True)
class Outcome:
    """The ends of requests under one kind of fault, which struck ``times`` times under ``streams`` at once."""

    fault: str
    times: int
    streams: int
    ended: int  # as promised
    asked: int
    differ: int | None  # texts; None where they are not compared
    words: str

    @property
    def cells(self) -> list[str]:
        ended = f"{self.ended:,} of {self.asked:,}"
        differ = "" if self.differ is None else f"{self.differ:,}"
        return [self.fault, f"{self.times:,}", str(self.streams), ended, differ, self.words]


class Report(NamedTuple):
    """``rows`` for the table; ``broken`` has the broken promises in words, a line each."""

    rows: list[Row]
    broken: list[str]
    outcomes: tuple[Outcome, ...] = ()


def outcome_table(outcomes: tuple[Outcome, ...]) -> str:
    head = ["fault", "times", "streams open", "ended as promised", "texts that differ", "what happened"]
    lines = [head, ["---"] * len(head), *(outcome.cells for outcome in outcomes)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def broken_list(broken: list[str]) -> str:
    """Return the first broken promises as a list, or a line that says that there are none."""
    if not broken:
        return "Broken promises: none."
    more = [f"and {len(broken) - _SHOWN} more"] if len(broken) > _SHOWN else []
    return "\n".join([f"**{len(broken)} BROKEN**\n", *(f"- {line[:300]}" for line in broken[:_SHOWN] + more)])


def body(report: Report) -> str:
    parts = [outcome_table(report.outcomes)] if report.outcomes else []
    parts += [table(report.rows)] if report.rows else []
    return "\n\n".join([*parts, broken_list(report.broken)])


def section(title: str, about: str, command: str, commit: str, report: Report) -> str:
    return f"## {title}\n\n{about}\n\n`{command}`; {machine()}; commit {commit}.\n\n{body(report)}\n"


def merge(document: str, sections: dict[str, str], order: list[str]) -> str:
    """Return ``document`` with ``sections`` in place of those of the same title; titles in ``order``, others behind."""
    known = {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in document.split("\n## ")[1:]}
    known |= sections
    titles = [*(title for title in order if title in known), *(title for title in known if title not in order)]
    return "\n".join([HEAD, *(known[title] for title in titles)])


def write(sections: dict[str, str], order: list[str]) -> None:
    before = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    DOCUMENT.write_text(merge(before, sections, order))

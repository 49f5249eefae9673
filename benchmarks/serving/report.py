"""docs/benchmarks.md: a section for each scenario, replaced when that scenario is run again."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ..measure import machine, table
from .bench import Outcome

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "plots"

HEAD = """\
# Benchmarks under load

*For those who ask how fast it is under load, and beside others.*

Written by `make bench-serving`; each section alone: `python -m benchmarks.serving NAME --write`. Every contender is a
process of its own on the same machine with the same random weights, prompts and matrix products (one thread each), and
they take turns. A figure with × is the median over rounds of ours to the peer's in that round, and behind it the least
and the most; the machine is shared, so speeds by themselves mean little.
"""


def section(title: str, about: str, command: str, commit: str, outcome: Outcome) -> str:
    """Return one scenario in Markdown, with the plots of ``write_plots``."""
    pictures = [f"{plot.shows}:\n\n![{plot.shows}](plots/{plot.name}.png)" for plot in outcome.plots]
    where = f"`{command}`; {machine()}; commit {commit}."
    return "\n\n".join([f"## {title}", about, where, table(outcome.rows), *pictures]) + "\n"


def merge(document: str, sections: dict[str, str], order: list[str]) -> str:
    """Return ``document`` with ``sections`` in place of those of the same title; titles in ``order`` come first."""
    known = {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in document.split("\n## ")[1:]}
    known |= sections
    return "\n".join([HEAD, *(known[title] for title in dict.fromkeys([*order, *known]) if title in known)])


def write(sections: dict[str, str], order: list[str]) -> None:
    before = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    DOCUMENT.write_text(merge(before, sections, order))


def write_plots(outcome: Outcome, folder: Path) -> None:
    for plot in outcome.plots:
        plot.draw(folder / f"{plot.name}.png")


def commit() -> str:
    """Return the commit that is checked out. Called first, because a report makes the tree dirty."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"

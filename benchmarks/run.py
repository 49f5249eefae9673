"""``make bench``: every benchmark, one after the other, printed and written to docs/measurements.md.

``python -m benchmarks.run NAME …`` runs those named, and writes their sections only.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

from .measure import machine, table

ROOT = Path(__file__).parents[1]

TITLES = {
    "wire": "The wire",
    "turn": "A turn of the engine's loop",
    "front": "The front at work on a megabyte",
    "startup": "Start-up",
    "first_chat": "The first chat",
    "blas": "Arithmetic on a Linux CPU",
    "products": "Products of our own, and what exact numerics cost",
    "sampling": "Sampling",
    "generate": "Generation",
    "prefixes": "The prefix cache",
    "prefix_index": "Finding a known prefix",
    "memory": "Memory",
    "clients": "Clients",
}

HEAD = """\
# Measurements

*For those who ask how fast it is, and those who change it.*

Written by `make bench`; each part alone: `python -m benchmarks.NAME`. Figures with × are medians of ratios against a
peer that was measured in turns in the same run; the machine is shared, so seconds by themselves mean little.
Two checkouts are compared by `python -m benchmarks.against`, which is not part of this page.
"""


def main(names: list[str]) -> None:
    page = ROOT / "docs" / "measurements.md"
    sections = {} if not names else _sections(page.read_text())
    for name in names or TITLES:
        module = import_module(f"benchmarks.{name}")
        rows = table(module.run())
        print(f"\n{TITLES[name]}\n{rows}", flush=True)
        what = f"`python -m benchmarks.{name}`: {_first_paragraph(module.__doc__)}"
        sections[TITLES[name]] = f"{what}\n\nCommit {_commit()}.\n\n{rows}\n{getattr(module, 'PICTURE', '')}"
    parts = [f"{HEAD}\n{machine()}.\n"]
    parts += [f"## {title}\n\n{sections[title]}" for title in TITLES.values() if title in sections]
    page.write_text("\n".join(parts))


def _sections(text: str) -> dict[str, str]:
    return {title: body.lstrip("\n") for title, _, body in (part.partition("\n") for part in text.split("\n## ")[1:])}


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


if __name__ == "__main__":
    main(sys.argv[1:])

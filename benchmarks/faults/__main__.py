"""Injects faults under load and checks the promises; ``--write`` puts the outcome into docs/faults.md.

Ends with status 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from types import ModuleType

from ..serving.report import commit
from ..serving.request import ContenderFailed
from .host import Stuck
from .report import Report, body, section, write

PARTS = {
    "kills": "Engines killed under load",
    "recovery": "From the death of an engine to the next delta",
    "signals": "Signals",
    "steps": "Steps that fail, poison and crash loops",
    "disk": "A full disk",
    "reader": "A reader that stalls",
    "cost": "What the happy path pays",
    "hosts": "Hosts that die",
    "fuzz": "Fuzzed frames",
    "hostile": "Hostile model directories",
}


def main() -> None:
    args = _parser().parse_args()
    checked_out = commit()
    sound = True
    for name in args.parts or PARTS:
        module = import_module(f".{name}", __package__)
        began = time.monotonic()
        report = tried(module, args.seed, args.quick)
        sound &= not report.broken
        print(f"\n{PARTS[name]} ({name}, {time.monotonic() - began:.0f} s)\n\n{body(report)}", flush=True)
        if args.write:
            about = " ".join((module.__doc__ or "").split())
            command = f"python -m benchmarks.faults {name} --seed {args.seed}" + " --quick" * args.quick
            title = PARTS[name]
            write({title: section(title, about, command, checked_out, report)}, list(PARTS.values()))
    sys.exit(not sound)


def tried(part: ModuleType, seed: int, quick: bool) -> Report:
    """Return the report of ``part``. A part that the sidecar's end or hang cuts short has broken its promise."""
    try:
        report: Report = part.run(seed, quick)
    except (ContenderFailed, Stuck) as failure:
        return Report([], [f"the run ended early: {failure}"])
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seed", type=int, default=1, help="other moments and other requests (default: 1)")
    parser.add_argument("--quick", action="store_true", help="few faults, small models: whether it works, in seconds")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    return parser


if __name__ == "__main__":
    main()

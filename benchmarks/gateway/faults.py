"""Injects faults into a gateway with clients, over real processes and sockets, and checks that streams end truthfully.

    python -m benchmarks.gateway.faults [PART…] [--seed N] [--quick] [--write]

``--write`` puts the outcome into docs/faults.md, behind that of ``make faults``. Ends with status 1 if a promise was
broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module

from ..faults.__main__ import PARTS as BEFORE
from ..faults.report import Report, body, section, write
from ..serving.report import commit

PARTS = {
    "boundaries": "Under a gateway: faults at every event boundary",
    "pings": "Under a gateway: silence",
    "disconnects": "Under a gateway: clients that leave",
    "stalled": "Under a gateway: readers that stall",
    "signals": "Under a gateway: signals",
}


def main() -> None:
    args = _parser().parse_args()
    checked_out = commit()
    sound = True
    for name in args.parts or PARTS:
        module = import_module(f".fault_{name}", __package__)
        began_s = time.monotonic()
        report: Report = module.run(args.seed, args.quick)
        sound &= not report.broken
        print(f"\n{PARTS[name]} ({name}, {time.monotonic() - began_s:.0f} s)\n\n{body(report)}", flush=True)
        if args.write:
            about = " ".join((module.__doc__ or "").split())
            command = f"python -m benchmarks.gateway.faults {name} --seed {args.seed}" + " --quick" * args.quick
            title = PARTS[name]
            write({title: section(title, about, command, checked_out, report)}, [*BEFORE.values(), *PARTS.values()])
    sys.exit(not sound)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.faults", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seed", type=int, default=1, help="other moments and other requests (default: 1)")
    parser.add_argument("--quick", action="store_true", help="few faults: whether it works, in a minute")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    return parser


if __name__ == "__main__":
    main()

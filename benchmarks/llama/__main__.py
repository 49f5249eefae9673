"""Ours against llama.cpp and mlx-lm on a Linux CPU, SmolLM2-135M, each in a process of its own, in turns.

    python -m benchmarks.llama [--only GROUP,…] [--rounds N] [--before PYTHON] [--json FILE] [--plots FOLDER]

A figure with × is the median over rounds of ours to the peer's in that round, with the least and the most. Each group
takes some minutes on two quiet cores; rounds of earlier runs are in FILE, and further ones are added to them.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path

from ..measure import machine
from ..serving.report import commit
from . import chats, plots, report
from .groups import GROUPS
from .measuring import Sitting, measure
from .peers import Peers
from .samples import Samples


def main() -> None:
    parser = _parser()
    given = parser.parse_args()
    # Raised where it comes, so that contenders end with their blocks, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    peers = Peers(given.before, given.variant)
    try:
        samples = Samples.read(given.json, machine()) if given.json is not None else Samples(machine())
    except ValueError as error:
        parser.error(str(error))
    command = shlex.join(["python", "-m", "benchmarks.llama", *sys.argv[1:]])
    parts = [f"{machine()}; commit {commit()}.\n\n    {command}"]

    def save() -> None:
        if given.json is not None:
            samples.write(given.json)

    def sitting(name: str, rounds: int) -> Sitting:
        return Sitting(name, given.rounds or rounds, given.minutes, _tell, save)

    for name in given.only or [*GROUPS, *chats.SIZES]:
        if name in chats.SIZES:
            if not given.report:
                chats.measure(peers, samples, sitting(name, chats.ROUNDS))
            parts.append(chats.section(name, samples))
        else:
            group = GROUPS[name](peers)
            if not given.report:
                measure(group, samples, sitting(name, group.rounds))
            parts.append(report.section(name, group, samples))
            if given.plots is not None:
                plots.draw(name, group, samples, given.plots)
        print(parts[-1], end="\n\n", flush=True)
    print("\n\n".join([parts[0], "Settings:\n\n" + report.settings(samples)]))


def _tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - {*GROUPS, *chats.SIZES}:
        raise argparse.ArgumentTypeError(f"there is no group {', '.join(sorted(unknown))}")
    return names


def _parser() -> argparse.ArgumentParser:
    names = ", ".join([*GROUPS, *chats.SIZES])
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llama", description=__doc__)
    parser.add_argument("--only", type=_names, metavar="GROUP,…", help=names)
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of each group's own number")
    parser.add_argument(
        "--minutes", type=float, default=6.0, help="no round of a group begins that would end later (6)"
    )
    parser.add_argument("--before", metavar="PYTHON", help="of another checkout's environment, measured as ours before")
    parser.add_argument("--variant", metavar="NAME", help="llama.cpp's kernels (haswell, zen4, …), not the best ones")
    parser.add_argument("--json", type=Path, metavar="FILE", help="rounds are read from it, and written to it")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the groups by-depth, by-batch and threads")
    parser.add_argument("--report", action="store_true", help="measure nothing: tables and plots of what is in FILE")
    return parser


if __name__ == "__main__":
    main()

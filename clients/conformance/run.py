"""The conformance kit drives a client through its adapter, case by case, each with a sidecar of its own.

python clients/conformance/run.py [OPTION…] -- ADAPTER ARG…        README.md describes adapters.
"""

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from mlx_sidecar_conformance.checks import Case, expanded, short
from mlx_sidecar_conformance.playing import Kit, Outcome, play_and_judge

CASES = Path(__file__).resolve().parent / "cases.jsonl"
LEVELS = ("must", "should", "backpressure", "respawn")


def report(outcome: Outcome) -> Iterator[str]:
    """One line for a case, and its complaints."""
    case = outcome.case
    left_out = f": {outcome.reasons[0]}" if outcome.word == "left out" else ""
    yield f"{outcome.word:9} {case['level']:12} {case['id']}{left_out}"
    if outcome.word == "failed":
        yield f"    why       {case['why']}"
        if "tap" in case:
            yield f"    tap       {short(case['tap'])}"
        yield from ("    " + reason.replace("\n", "\n    ") for reason in outcome.reasons)


def chosen(only: list[str], levels: list[str]) -> list[Case]:
    """The cases of these ids and levels; all if none are named."""
    cases: list[Case] = [expanded(json.loads(line)) for line in CASES.read_bytes().splitlines()]
    if unknown := set(only) - {case["id"] for case in cases}:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}")
    return [case for case in cases if (not only or case["id"] in only) and (not levels or case["level"] in levels)]


def say(*lines: str) -> None:
    sys.stdout.write("".join(line + "\n" for line in lines))
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Test a client of mlx-sidecar.", usage="run.py [OPTION…] -- ADAPTER ARG…"
    )
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="this case; may be repeated")
    parser.add_argument("--level", action="append", default=[], choices=LEVELS, help="these cases; may be repeated")
    parser.add_argument("--sidecar", default="mlx-sidecar", help="its command, as a shell would read it")
    parser.add_argument("--patience", type=float, default=60.0, metavar="S", help="when a case counts as hung")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="cases at a time")
    parser.add_argument("adapter", nargs="+", metavar="ADAPTER")
    given = parser.parse_args()
    kit = Kit(given.adapter, shlex.split(given.sidecar), given.patience)
    for program in (kit.adapter[0], kit.sidecar[0]):
        if shutil.which(program) is None:
            parser.error(f"no such program: {program}")
    cases = chosen(given.only, given.level)
    words = []
    with ThreadPoolExecutor(given.jobs) as workers:
        for result in workers.map(partial(play_and_judge, kit), cases):
            say(*report(result))
            words.append(result.word)
    say(", ".join(f"{words.count(word)} {word}" for word in ("passed", "left out", "failed")))
    return 1 if "failed" in words or "passed" not in words else 0


if __name__ == "__main__":
    sys.exit(main())

"""Mutated model directories beside an innocent stream. Ends with status 1 if a promise was broken.

python -m benchmarks.hostile --trials 10000        run so many trials
python -m benchmarks.hostile --seed 1 --trial 513  repeat one of them
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator

from .directory import KINDS, Trial
from .report import report, whole
from .siege import Siege

TRIALS = 1_000
_FOREVER_S = 1e9


def main() -> None:
    args = _parser().parse_args()
    print(f"seed {args.seed}", flush=True)
    siege = Siege(shown=sys.stderr)
    asyncio.run(siege.run(_chosen(args), args.seconds))
    found = report(siege, quick=False)
    print(whole(siege, found))
    sys.exit(bool(found.broken))


def _chosen(args: argparse.Namespace) -> Iterator[Trial]:
    if args.trial is not None:
        return iter([Trial(args.seed, args.trial)])
    trials = (Trial(args.seed, number) for number in range(args.trials))
    return (trial for trial in trials if args.kind in (None, trial.kind))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="other mutations (default: 1)")
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"how many (default: {TRIALS})")
    parser.add_argument("--trial", type=int, help="only this one")
    parser.add_argument("--kind", choices=[*KINDS], help="only mutations of this file")
    parser.add_argument("--seconds", type=float, default=_FOREVER_S, help="begin none after that many")
    return parser


if __name__ == "__main__":
    main()

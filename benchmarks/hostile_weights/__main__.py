"""``python -m benchmarks.hostile_weights [--trials N] [--seed N]``: mutated directories of many architectures.

A stream beside them must have the same text as alone, and pings must be answered. Ends with status 1 if a process was
lost, an error was untyped, or the stream's text differed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from .bases import write_bases
from .trials import Trials


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.hostile_weights", description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="tell each trial")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root, Trials(write_bases(Path(root)), Path(root)) as trials:
        for seed in range(args.seed, args.seed + args.trials):
            done, outcome = trials.run(seed)
            if args.verbose:
                print(seed, done, "->", outcome, flush=True)
    for kind, count in Counter(trials.outcomes).most_common():
        print(f"{count:6} {kind}")
    print(f"worst ping {trials.worst_ping_s * 1000:.0f} ms, {trials.restarts} restarts, {len(trials.broken)} broken")
    print(*trials.broken, *trials.slow, sep="\n")
    sys.exit(bool(trials.broken or trials.slow))


if __name__ == "__main__":
    main()

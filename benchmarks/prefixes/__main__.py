"""``python -m benchmarks.prefixes [PART …]``: the parts named, or all. Prints their tables."""

from __future__ import annotations

import sys

from ..measure import machine, table
from . import PARTS, run

if __name__ == "__main__":
    print(machine())
    print(table(run(*sys.argv[1:] or PARTS)))

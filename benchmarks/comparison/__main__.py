"""Prints the table of docs/comparison.md: each question, and what each peer that is here did.

    python -m benchmarks.comparison [--only PEER …]

All compute the embedded model: ours and mlx-lm's server from its directory, the others from a GGUF file in float32 with
the same weights. llama-server is found on the search path; LLAMA_CPP_PYTHON names a Python that has
``llama-cpp-python[server]``, and NODE_LLAMA_CPP a folder in which npm has installed ``node-llama-cpp``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import gguf
from .peers import PEERS
from .questions import QUESTIONS


def table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """Return a row for each question, and a column for each name in ``columns``."""
    lines = [f"| asked | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {title} | {' | '.join(cells[title] for cells in columns.values())} |" for title in QUESTIONS]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Asks this gateway and its peers the same questions.")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), help="the peers to ask")
    columns = {}
    with tempfile.TemporaryDirectory(prefix="comparison-") as folder:
        path = Path(folder) / "pocket.gguf"
        gguf.write(path)
        for name in parser.parse_args(arguments).only:
            peer = PEERS[name]
            if because := peer.missing():
                print(f"not asked: {name}, because {because}", file=sys.stderr)
                continue
            columns[peer.name()] = peer.ask(path, lambda title, cell: print(f"{title}: {cell}", file=sys.stderr))
    print(table(columns))


if __name__ == "__main__":
    main()

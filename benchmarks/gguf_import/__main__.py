"""Prints the tables of docs/gguf.md.

    python -m benchmarks.gguf_import [vocabularies] [architectures] [GGUF …]

Without a word it compares all: tokens of the vocabularies in the sdist of llama-cpp-python (77 MB, fetched once), and
logits of a small random file of each architecture with those of llama.cpp. Of a GGUF file it compares the logits.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import vocabularies

_PARTS = ("vocabularies", "architectures")
_TOKENS = 40


def main() -> None:
    asked = sys.argv[1:] or list(_PARTS)
    for word in asked:
        rows = _vocabularies() if word == _PARTS[0] else _architectures() if word == _PARTS[1] else _file(Path(word))
        for row in rows:
            print("| " + " | ".join(row) + " |", flush=True)
        print()


def _vocabularies() -> Iterator[tuple[str, ...]]:
    yield "vocabulary", "kind", "texts with other tokens than llama.cpp's"
    yield "---", "---", "---"
    for path in vocabularies.fetch():
        found = vocabularies.compare(path)
        told = f"{found.differ} of {found.texts}" if found.texts else "no texts in the package; rebuilt"
        yield found.name, found.kind, f"refused: {found.refused}" if found.refused else told


def _architectures() -> Iterator[tuple[str, ...]]:
    from tests.support.ggufs import EXAMPLES, write_example

    from .logits import compare

    yield "file", "difference of logits", "same likeliest token"
    yield "---", "---", "---"
    with tempfile.TemporaryDirectory() as folder:
        for name in EXAMPLES:
            path = Path(folder) / f"{name}.gguf"
            write_example(path, name)
            found = compare(path, np.random.default_rng(1).integers(3, 260, _TOKENS).tolist())
            yield name, f"{found.error:.1e}", f"{found.same_first} of {found.positions}"


def _file(path: Path) -> Iterator[tuple[str, ...]]:
    """A file as it is, and as llama.cpp unpacks it, for what llama.cpp's own rounding of activations makes."""
    from .logits import compare, text_tokens, unpacked

    tokens = text_tokens(path)
    yield "file", "against llama.cpp on", "difference of logits", "same likeliest token"
    yield "---", "---", "---", "---"
    with tempfile.TemporaryDirectory() as folder:
        for what, theirs in (("the file", path), ("the file unpacked to float32", unpacked(path, Path(folder)))):
            found = compare(path, tokens, theirs=theirs)
            yield path.name, what, f"{found.error:.1e}", f"{found.same_first} of {found.positions}"


if __name__ == "__main__":
    main()

"""llama.cpp in a process that measures it: ``python -m benchmarks.llama.contender_llama OPTIONS``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .library import UBATCH, Context, Library, open_library
from .work import InProcess, serve, warm


class LlamaCpp:
    """One model; a context is kept as long as it has the right shape."""

    def __init__(self, library: Library, path: Path, *, threads: int, flash: bool) -> None:
        self._library = library
        self._model = library.load(path)
        self._threads, self._flash = threads, flash
        self._shape = (0, 0)
        self._context: Context | None = None
        self._length = 0

    def begin(self, rows: int, room: int) -> None:
        if self._context is not None and self._shape == (rows, room):
            self._context.clear()
        else:
            if self._context is not None:
                self._context.close()
            self._shape = rows, room
            self._context = Context(self._library, self._model, rows, room, threads=self._threads, flash=self._flash)
        self._length = 0

    def prefill(self, prompts: Sequence[list[int]]) -> list[int]:
        """Prompts go in one after the other: llama.cpp cuts each into passes of UBATCH tokens."""
        context = self._begun()
        tokens = []
        for row, prompt in enumerate(prompts):
            context.put(row, 0, prompt)
            tokens += context.run()
        self._length = len(prompts[0])
        return tokens

    def step(self, tokens: list[int]) -> list[int]:
        context = self._begun()
        for row, token in enumerate(tokens):
            context.put(row, self._length, [token])
        self._length += 1
        return context.run()

    def _begun(self) -> Context:
        assert self._context is not None
        return self._context


def main(model: str, threads: int, flash: bool, variant: str | None) -> None:
    library = open_library(variant)
    engine = LlamaCpp(library, Path(model), threads=threads, flash=flash)
    warm(engine)
    facts = {"kernels": library.variant, "threads": threads, "flash": flash, "ubatch": UBATCH}
    serve(InProcess(engine), {**facts, "file_bytes": Path(model).stat().st_size})


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

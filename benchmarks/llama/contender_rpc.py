"""``mlx-sidecar serve`` through the Python client: ``python -m benchmarks.llama.contender_rpc OPTIONS``.

It runs in the environment of any checkout, whose sidecar and client it then measures.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from mlx_sidecar_client import SyncSidecar

from .work import Times, Work, prompt, serve


class OverPipes:
    """One stream at a time, each delta seen by the host. Times are those of the host."""

    def __init__(self, sidecar: SyncSidecar, model: str, *, warm: bool) -> None:
        """``warm``: the prompt of a work is the same in each round, and cached before the first."""
        self._sidecar = sidecar
        self._model = model
        self._warm = warm
        self._cached: set[int] = set()  # tokens of prompts

    def measure(self, work: Work, number: int) -> Times:
        """Raises ValueError for several rows, or rows that are kept."""
        if work.rows != 1 or work.kept:
            raise ValueError("one stream that begins anew, over pipes")
        if self._warm and work.prompt not in self._cached:
            self._generate(work, 0)
            self._cached.add(work.prompt)
        return self._generate(work, 0 if self._warm else number)

    def _generate(self, work: Work, number: int) -> Times:
        tokens = prompt(work.prompt, number)
        settings: dict[str, Any] = {"temperature": 0, "ignore_eos": True}
        began = time.perf_counter()
        stream = self._sidecar.generate(self._model, tokens=tokens, max_tokens=work.steps + 1, **settings)
        times = [began, *(time.perf_counter() for delta in stream for _ in delta.tokens)]
        if len(times) != work.steps + 2:
            raise ValueError(f"{len(times) - 1} tokens came, of {work.steps + 1}")
        return Times(times[1] - began, times[-1] - times[1] if work.steps else None)


def main(model: str, serve_options: list[str], *, warm: bool = False) -> None:
    """``warm``: with a prefix cache, and prompts that are in it."""
    command = [str(Path(sys.executable).with_name("mlx-sidecar"))]
    options = [*([] if warm else ["--cache-limit-bytes", "0"]), *serve_options]
    with SyncSidecar.spawn(command=command, options=options, respawn=False) as sidecar:
        card = sidecar.load(model)
        measured = OverPipes(sidecar, model, warm=warm)
        measured.measure(Work(32, 4), 0)
        serve(measured, {name: getattr(card, name) for name in ("forward", "dtype", "policy")})


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

"""This project's engine in a process that measures it: ``python -m benchmarks.llama.contender_ours OPTIONS``.

A model is loaded as the engine loads it, so whatever forward it chooses is measured. It runs in the environment of any
checkout, whose engine it then measures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, cast

import psutil

from mlx_sidecar.link.control_messages import Dtype, Load

from .work import InProcess, serve, warm

CHUNK = 512  # tokens of one pass, as llama.cpp has them
_LIMIT_BYTES = 8 << 30


class Ours:
    """A forward, driven as the engine's batch drives it, one evaluated pass after another."""

    def __init__(self, forward: Any) -> None:
        self._forward = forward
        self._rows: list[int] = []
        self._next = 0

    def begin(self, rows: int, room: int) -> None:
        for row in self._rows:
            self._forward.close(row)
        self._forward.release()
        self._rows = list(range(self._next, self._next + rows))
        self._next += rows
        for row in self._rows:
            self._forward.open(row, room)

    def prefill(self, prompts: Sequence[list[int]]) -> list[int]:
        return [self._taken(row, prompt) for row, prompt in zip(self._rows, prompts, strict=True)]

    def step(self, tokens: list[int]) -> list[int]:
        from mlx_sidecar.engine.execution.forward import NEXT_TOKEN, Part

        return self._run([Part(row, 1, NEXT_TOKEN) for row in self._rows], tokens)

    def _taken(self, row: int, prompt: list[int]) -> int:
        from mlx_sidecar.engine.execution.forward import NEXT_TOKEN, NOTHING_WANTED, Part

        *first, last = (prompt[start : start + CHUNK] for start in range(0, len(prompt), CHUNK))
        for chunk in first:
            self._run([Part(row, len(chunk), NOTHING_WANTED)], chunk)
        (token,) = self._run([Part(row, len(last), NEXT_TOKEN)], last)
        return token

    def _run(self, parts: list[Any], tokens: list[int]) -> list[int]:
        import mlx.core as mx

        from mlx_sidecar.engine.execution.forward import StepInput

        output = self._forward.run(StepInput(parts, mx.array(tokens, dtype=mx.int32)))
        if callable(output.logits):  # they are computed apart
            apart: Any = output.logits()
            return cast("list[int]", apart.argmax(axis=-1).tolist())
        logits, state = output
        likeliest = mx.argmax(logits, axis=-1) if logits.shape[0] else logits
        mx.eval(likeliest, state)
        return cast("list[int]", likeliest.tolist()) if logits.shape[0] else []


def main(model: str, dtype: Dtype | None, settle: dict[str, Any]) -> None:
    """``dtype``: that of a load, None for the policy's. ``settle``: arguments of the backend policy."""
    from mlx_sidecar.engine.execution.backend_policy import settle as settled

    policy = settled(**settle)
    from mlx_sidecar.engine.execution.mlx_backend import MlxBackend

    before_bytes = psutil.Process().memory_info().rss
    backend = MlxBackend(policy, _LIMIT_BYTES)
    loading = backend.load(Load(0, model, model, dtype))
    while True:
        try:
            next(loading)
        except StopIteration as done:
            loaded = done.value
            break
    del loading
    backend.reclaim()  # as the engine does behind a load
    resident_bytes = psutil.Process().memory_info().rss - before_bytes
    batch: Any = loaded.batch
    # Before the native step, a batch had its forward for itself.
    engine = Ours(batch.forward if hasattr(batch, "forward") else batch._forward)
    warm(engine)
    card = loaded.card
    told = {name: getattr(card, name) for name in ("forward", "dtype", "policy", "memory_bytes")}
    serve(InProcess(engine), {**told, "resident_bytes": resident_bytes})


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

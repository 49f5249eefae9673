"""The answers of mlx-lm's own generator to the prompts: greedy tokens, their log-probabilities, the likeliest others.

    PYTHONPATH=tools python -m tests.real.reference

computes it (half a minute) and keeps it beside the model, for as long as the model, mlx, mlx-lm and this code are the
same. It takes a process of its own, because the BLAS of a process is settled before mlx is imported: it is the
sidecar's, since mlx's own one takes ten times as long.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

import real_model

from .prompts import LENGTHS, prompts

TOKENS = 5  # generated for each prompt
ALTERNATIVES = 5  # reported at each of them, itself included
# As the sidecar computes them on a CPU unless it is told otherwise, and one that is computed as it is stored.
FLOAT32, UNPACKED, BFLOAT16 = "smollm2, float32", "smollm2-4bit, float32", "smollm2, bfloat16"
# Lengths of the prompts for each. Once unpacked the second is computed as the first, so the longest tells nothing new.
# bfloat16 is many times slower on a CPU, and prompts are left out for which two tokens are equally likely in it.
PROMPTS = {FLOAT32: LENGTHS, UNPACKED: LENGTHS[:-1], BFLOAT16: [5, 7]}


class Step(NamedTuple):
    """One generated token. ``alternatives``: token and log-probability of the likeliest ones, the first is ours."""

    token: int
    logprob: float
    alternatives: list[tuple[int, float]]

    @property
    def margin(self) -> float:
        """By how much, in log-probability, this token is likelier than any other."""
        return self.logprob - self.alternatives[1][1]


Reference = dict[str, list[list[Step]]]  # name → for each prompt its steps


def read() -> Reference:
    """The reference, computed if it is not there."""
    path = _path()
    if not path.exists():
        search = {**os.environ, "PYTHONPATH": str(real_model.ROOT / "tools")}
        subprocess.run([sys.executable, "-m", "tests.real.reference"], check=True, cwd=real_model.ROOT, env=search)
    raw: dict[str, list[list[Any]]] = json.loads(path.read_text())
    return {
        name: [
            [Step(token, logprob, [(t, p) for t, p in others]) for token, logprob, others in steps] for steps in rows
        ]
        for name, rows in raw.items()
    }


def _path() -> Path:
    sources = [Path(__file__), Path(__file__).with_name("prompts.py")]
    parts = [real_model.key(), version("mlx"), version("mlx-lm"), *(source.read_text() for source in sources)]
    return real_model.FOLDER / f"reference-{hashlib.sha256(''.join(parts).encode()).hexdigest()[:16]}.json"


def _load(name: str) -> Any:
    """The model of that name, with mlx-lm's loader."""
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.utils import dequantize_model, load_model

    directory, _, dtype = name.partition(", ")
    model, _ = load_model(real_model.FOLDER / directory, lazy=True)

    def cast(array: mx.array) -> mx.array:
        return array.astype(getattr(mx, dtype)) if mx.issubdtype(array.dtype, mx.floating) else array

    # Scales before they are multiplied, so that unpacked weights are rounded once, to float32.
    model.update(tree_map(cast, model.parameters()))
    model = dequantize_model(model)
    mx.eval(model.parameters())
    return model


def _steps(model: Any, prompt: list[int]) -> list[Step]:
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    steps = []
    for token, logprobs in generate_step(mx.array(prompt), model, max_tokens=TOKENS):
        exact = logprobs.astype(mx.float32)
        best = cast("list[int]", mx.argsort(-exact)[:ALTERNATIVES].tolist())
        values = cast("list[float]", exact[mx.array([token, *best])].tolist())
        steps.append(Step(int(token), values[0], list(zip(best, values[1:], strict=True))))
    return steps


def compute() -> Reference:
    from mlx_sidecar.engine.execution.blas import preload

    preload("fast")
    reference: Reference = {}
    for name, lengths in PROMPTS.items():
        model = _load(name)
        reference[name] = [_steps(model, prompt) for prompt in prompts(lengths)]
    return reference


def main() -> None:
    path = _path()
    if path.exists() or not real_model.is_made():
        return
    print("computing what mlx-lm gives for the real model", flush=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(compute()))
    for old in real_model.FOLDER.glob("reference-*.json"):
        old.unlink()
    partial.rename(path)


if __name__ == "__main__":
    main()

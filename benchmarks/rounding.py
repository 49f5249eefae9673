"""Measures the loss of quality by what native code rounds: the real model at 4 bits over a text, token by token.

``python -m benchmarks.rounding [TOKENS]`` prints, against activations, keys and values in float32: the mean
Kullback-Leibler divergence of the next token's distribution, how many likeliest tokens are others, and the perplexity
of the text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mlx_sidecar.engine.execution.backend_policy import settle
from mlx_sidecar.link.control_messages import Load

from .measure import machine

ROOT = Path(__file__).parents[1]
MODEL = ROOT / ".venv" / "models" / "smollm2-4bit"
_LIMIT_BYTES = 8 << 30


class Way(NamedTuple):
    words: str
    arithmetic: str
    cache_dtype: Literal["float32", "float16"] = "float32"


WAYS = {
    "exact": Way("nothing, `--numerics exact`", "exact"),
    "fast": Way("nothing, `--numerics fast`", "fast"),
    "float16": Way("keys and values, `--kv-cache-dtype float16`", "fast", "float16"),
    "int8": Way("activations, `--activations int8`", "int8"),
}


class Quality(NamedTuple):
    divergence: float  # mean, in nats
    other: int  # positions with another likeliest token
    perplexity: float


def main(count: int = 300) -> None:
    settle("fast")  # before anything imports mlx
    tokens = Tokenizer.from_file(str(MODEL / "tokenizer.json")).encode((ROOT / "README.md").read_text()).ids[:count]
    exact = log_probabilities(WAYS["exact"], tokens)
    print(f"{machine()}\n{MODEL.name}, {len(tokens)} tokens of README.md, token by token\n")
    print("| what is rounded | divergence | other likeliest tokens | perplexity |\n|---|---|---|---|")
    for name, way in WAYS.items():
        found = quality(exact, exact if name == "exact" else log_probabilities(way, tokens), tokens)
        print(f"| {way.words} | {found.divergence:.1e} | {found.other} | {found.perplexity:.2f} |")


def log_probabilities(way: Way, tokens: list[int]) -> NDArray[np.float64]:
    """Return those of the native forward after each token but the last: [tokens - 1, vocabulary]."""
    import mlx.core as mx

    from mlx_sidecar.checkpoint.model_directory import inspect
    from mlx_sidecar.engine.execution.forward import NEXT_TOKEN, Part, StepInput
    from mlx_sidecar.engine.execution.loader import load_steps
    from mlx_sidecar.engine.execution.native.proof import prove
    from mlx_sidecar.engine.execution.trial import drained

    directory = inspect("model", str(MODEL))
    weights: Any = drained(load_steps(Load(0, "model", str(MODEL)), directory, None))  # type: ignore[arg-type]
    forward = drained(prove("model", weights.model, way.arithmetic, 1, way.cache_dtype)).forward
    forward.open(0, len(tokens))
    logits = [forward.run(StepInput([Part(0, 1, NEXT_TOKEN)], mx.array([token]))).logits()[0] for token in tokens[:-1]]
    rows = np.stack(logits).astype(np.float64)
    peaks = rows.max(axis=-1, keepdims=True)
    found: NDArray[np.float64] = rows - peaks - np.log(np.exp(rows - peaks).sum(axis=-1, keepdims=True))
    return found


def quality(one: NDArray[np.float64], other: NDArray[np.float64], tokens: list[int]) -> Quality:
    """Compare log-probabilities [tokens - 1, vocabulary] with ``one``, which are the exact ones."""
    divergence = float(np.mean(np.sum(np.exp(one) * (one - other), axis=-1)))
    changed = int(np.sum(one.argmax(axis=-1) != other.argmax(axis=-1)))
    told = -np.mean(other[np.arange(len(tokens) - 1), tokens[1:]])
    return Quality(divergence, changed, float(np.exp(told)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""Forwards under test, and the logits that their rows are to have."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.engine.execution.forward import NEXT_TOKEN, Forward, Part, StepInput, StepOutput
from mlx_sidecar.engine.execution.probe import probe
from mlx_sidecar.engine.execution.trial import distance

FLAT = ["qwen3", "llama", "sliding"]
MERGED = ["mamba", "lfm2", "qwen3_5", "llama4"]
# Beyond the first room of 256, and beyond a window of 32 and its slack.
LENGTH = 330
PROMPTS = [[(7 * i + i // 5) % 300 for i in range(LENGTH)], [(11 * i + i // 3 + 1) % 300 for i in range(LENGTH)]]


@dataclass
class Subject:
    """A model under test, and logits [prompt][position, vocabulary]: ``own`` with mlx-lm's caches, ``alone`` of the
    forward with a single row that takes in token after token."""

    forward: Forward
    own: list[mx.array]
    alone: list[mx.array] = field(default_factory=list)


def load(models: Path, kind: str) -> Any:
    return mlxlm.load_model(models / kind)[0]


def run(forward: Forward, parts: list[Part], tokens: list[int] | mx.array) -> StepOutput:
    return forward.run(StepInput(parts, tokens if isinstance(tokens, mx.array) else mx.array(tokens)))


def logits_alone(forward: Forward, prompt: list[int]) -> mx.array:
    forward.open(0, len(prompt))
    rows = []
    for token in prompt:
        logits, state = run(forward, [Part(0, 1, NEXT_TOKEN)], [token])
        mx.async_eval(logits, state)
        rows.append(logits)
    forward.close(0)
    return mx.concatenate(rows)


def subject(models: Path, kind: str, length: int) -> Subject:
    model = load(models, kind)
    own = [model(mx.array([prompt[:length]]), cache=mlxlm.make_prompt_cache(model))[0] for prompt in PROMPTS]
    mx.eval(own)
    return Subject(probe(kind, model).forward, own)


def close(one: mx.array, other: mx.array) -> bool:
    """Whether they differ by rounding only, in a model of a few layers in float32."""
    return distance(one, other) < 1e-4

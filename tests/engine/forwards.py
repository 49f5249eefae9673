"""Forwards under test, and the logits that their rows are to have."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.engine.execution.forward import NEXT_TOKEN, Forward, Part, StepInput, StepOutput
from mlx_sidecar.engine.execution.native.proof import prove
from mlx_sidecar.engine.execution.probe import probe
from mlx_sidecar.engine.execution.trial import distance, drained

FLAT = ["qwen3", "llama", "sliding"]
NATIVELY = "native "
IN_HALVES = "in float16 "
NATIVE = [NATIVELY + kind for kind in FLAT]
NATIVE_IN_HALVES = NATIVELY + IN_HALVES + "sliding"
MERGED = ["mamba", "lfm2", "qwen3_5", "llama4"]
# Beyond the first room of 256, and beyond a window of 32 and its slack.
LENGTH = 330
PROMPTS = [[(7 * i + i // 5) % 300 for i in range(LENGTH)], [(11 * i + i // 3 + 1) % 300 for i in range(LENGTH)]]


@dataclass
class Subject:
    """A model under test, and logits [prompt][position, vocabulary]: ``own`` with mlx-lm's caches, ``alone`` of the
    forward with a single row that takes in token after token. ``near``: how far they may be apart."""

    forward: Forward
    own: list[mx.array]
    near: float = 1e-4
    alone: list[mx.array] = field(default_factory=list)


def load(models: Path, kind: str) -> Any:
    return mlxlm.load_model(models / kind)[0]


def run(forward: Forward, parts: list[Part], tokens: list[int] | mx.array) -> tuple[mx.array, list[mx.array]]:
    output = forward.run(StepInput(parts, tokens if isinstance(tokens, mx.array) else mx.array(tokens)))
    return (output.logits, output.state) if isinstance(output, StepOutput) else (output.wait(), [])


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
    """A model of ``kind``; "native " in front has native code compute it, with "in float16 " a cache of such."""
    native, kind = kind.startswith(NATIVELY), kind.removeprefix(NATIVELY)
    halves, kind = kind.startswith(IN_HALVES), kind.removeprefix(IN_HALVES)
    model = load(models, kind)
    own = [model(mx.array([prompt[:length]]), cache=mlxlm.make_prompt_cache(model))[0] for prompt in PROMPTS]
    mx.eval(own)
    if not native:
        return Subject(probe(kind, model).forward, own)
    forward = drained(prove(kind, model, "exact", 1, "float16" if halves else "float32")).forward
    return Subject(forward, own, 5e-3 if halves else 1e-4)


def close(one: mx.array, other: mx.array) -> bool:
    """Whether they differ by rounding only, in a model of a few layers in float32."""
    return distance(one, other) < 1e-4

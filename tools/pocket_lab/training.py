"""Makes and fits the model: mlx-lm's qwen3 class, Muon and AdamW, a warm-up and a cosine."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten
from mlx_lm.models import qwen3

from . import fastmath
from .encode import Batch

CONTEXT = 8192


@dataclass(frozen=True)
class Size:
    """The shape of the network."""

    vocabulary: int = 2048
    width: int = 128
    layers: int = 4
    feed_forward: int = 384
    heads: int = 4
    key_value_heads: int = 2
    head_width: int = 32

    def config(self, end_tokens: Sequence[int]) -> dict[str, Any]:
        """config.json of a qwen3 model of this size."""
        return {
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": self.width, "num_hidden_layers": self.layers,
            "intermediate_size": self.feed_forward, "num_attention_heads": self.heads, "num_key_value_heads": self.key_value_heads,
            "head_dim": self.head_width, "vocab_size": self.vocabulary, "max_position_embeddings": CONTEXT, "rope_theta": 100000.0,
            "rms_norm_eps": 1e-6, "hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": True,
            "use_cache": True, "torch_dtype": "float16", "bos_token_id": None, "eos_token_id": list(end_tokens),
        }  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The number of steps and the learning rates."""

    steps: int = 3300
    tokens_per_step: int = 1024
    matrix_rate: float = 0.015
    peak_rate: float = 4e-3
    warm_up: int = 100
    final_share: float = 0.02

    def share(self, step: int) -> float:
        """The share of the peak rate at a step: it rises in a line and falls in a cosine."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * done))


def new_model(config: dict[str, Any], seed: int) -> qwen3.Model:
    """A model with fresh weights, smaller than mlx's defaults as a tied embedding needs it."""
    mx.random.seed(seed)
    model = qwen3.Model(qwen3.ModelArgs.from_dict(config))
    layers = config["num_hidden_layers"]

    def fresh(path: str, weight: mx.array) -> mx.array:
        if weight.ndim < 2:
            return weight
        spread = 0.02 if "embed" in path else (1 / math.sqrt(weight.shape[1]))
        return mx.random.normal(weight.shape) * (
            spread / math.sqrt(2 * layers) if path.endswith(("o_proj.weight", "down_proj.weight")) else spread
        )

    model.load_weights([(path, fresh(path, weight)) for path, weight in named(model.parameters())])
    mx.eval(model.parameters())
    return model


def count(model: nn.Module) -> int:
    """Parameters of a model."""
    return sum(weight.size for _, weight in named(model.parameters()))


def in_millions(model: nn.Module) -> str:
    """The number of a model's parameters in millions, as pocket describes itself: "1.0"."""
    return f"{count(model) / 1e6:.1f}"


def named(parameters: Any) -> list[tuple[str, mx.array]]:
    """The arrays of a tree of parameters with their paths."""
    flat: list[tuple[str, mx.array]] = tree_flatten(parameters)  # type: ignore[assignment]
    return flat


def batch_loss(model: Any, tokens: mx.array, targets: mx.array, answers: mx.array) -> mx.array:
    """Mean cross-entropy in nats over the target positions, for which alone logits are computed."""
    hidden = model.model(tokens)
    hidden = hidden.reshape(-1, hidden.shape[-1])[targets]
    chances: Any = fastmath.softmax(model.model.embed_tokens.as_linear(hidden))
    return -mx.log(mx.take_along_axis(chances, answers[:, None], axis=-1) + 1e-20).mean()


def fit(model: qwen3.Model, stream: Iterator[Batch], plan: Plan) -> tuple[int, float]:
    """Trains in place, and prints the loss now and then; returns the tokens seen and the seconds taken."""
    fastmath.keep_freed_memory()
    # No weight decay, because mlx's Muon adds it before it orthogonalises the gradient, and where the gradient is small
    # the step is then all decay. With 0.01 every feed-forward matrix of this model went to zero.
    matrices = optim.Muon(plan.matrix_rate, weight_decay=0.0)
    others = optim.AdamW(plan.peak_rate, betas=[0.9, 0.98], weight_decay=0.0)
    # Muon for the matrices inside: after 120 steps it was at a loss of 2.7 where AdamW for everything was at 3.6.
    optimizer = optim.MultiOptimizer(
        [matrices, others], [lambda path, weight: weight.ndim == 2 and "embed" not in path]
    )
    started, seen, recent = time.monotonic(), 0, 0.0
    with (
        patch.object(qwen3, "swiglu", fastmath.swiglu),
        patch.object(qwen3, "scaled_dot_product_attention", _attention),
    ):
        step_gradient = nn.value_and_grad(model, batch_loss)
        for step in range(plan.steps):
            batch = next(stream)
            loss, gradients = step_gradient(
                model, mx.array(batch.tokens), mx.array(batch.targets), mx.array(batch.answers)
            )
            gradients, _ = optim.clip_grad_norm(gradients, 1.0)
            matrices.learning_rate = plan.matrix_rate * plan.share(step)
            others.learning_rate = plan.peak_rate * plan.share(step)
            optimizer.update(model, gradients)
            mx.eval(loss, model.parameters(), optimizer.state)
            seen += len(batch.tokens) * len(batch.tokens[0])
            recent += loss.item()
            if (step + 1) % 50 == 0:
                print(
                    f"step {step + 1}/{plan.steps}  loss {recent / 50:.3f}  {seen / (time.monotonic() - started):.0f} tokens/s",
                    flush=True,
                )
                recent = 0.0
    return seen, time.monotonic() - started


def _attention(queries: mx.array, keys: mx.array, values: mx.array, **options: Any) -> mx.array:
    return fastmath.attention(queries, keys, values, scale=options["scale"])


def rounded(model: qwen3.Model) -> dict[str, mx.array]:
    """The weights as they are stored: float16."""
    return {path: weight.astype(mx.float16) for path, weight in named(model.parameters())}

"""A tiny EmbeddingGemma with random weights, and what it computes in float64, for tests/support/encoder_models.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, INNER, HEADS, SHARED, SIZE, LAYERS, VOCABULARY, POSITIONS = 32, 64, 4, 2, 16, 3, 300, 96
# In layers 1 and 2 a token sees four in each direction; heads are together wider than a hidden state.
CONFIG: dict[str, Any] = {
    "model_type": "gemma3_text",
    "use_bidirectional_attention": True,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": SHARED,
    "head_dim": SIZE,
    "intermediate_size": INNER,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": POSITIONS,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 24,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "sliding_window": 9,
    "_sliding_window_pattern": 3,
}
_NORMS = ("input", "post_attention", "pre_feedforward", "post_feedforward")

Drawn = Callable[..., NDArray[np.float32]]
Vector = Any  # NDArray[np.float64], whose operators give Any


def gemma_weights(drawn: Drawn, labels: int) -> dict[str, NDArray[np.float32]]:
    """Weights as ``drawn``, under the names of its checkpoints; with a classifier where there are ``labels``."""
    prefix = "model." if labels else ""
    found = {f"{prefix}embed_tokens.weight": drawn(VOCABULARY, WIDTH), f"{prefix}norm.weight": drawn(WIDTH)}
    for i in range(LAYERS):
        at = f"{prefix}layers.{i}."
        for name, heads in (("q", HEADS), ("k", SHARED), ("v", SHARED)):
            found[f"{at}self_attn.{name}_proj.weight"] = drawn(heads * SIZE, WIDTH)
        found[f"{at}self_attn.o_proj.weight"] = drawn(WIDTH, HEADS * SIZE)
        found |= {f"{at}self_attn.{name}_norm.weight": drawn(SIZE) for name in "qk"}
        found |= {f"{at}mlp.{name}_proj.weight": drawn(INNER, WIDTH) for name in ("gate", "up")}
        found[f"{at}mlp.down_proj.weight"] = drawn(WIDTH, INNER)
        found |= {f"{at}{name}_layernorm.weight": drawn(WIDTH) for name in _NORMS}
    return found | ({"score.weight": drawn(labels, WIDTH)} if labels else {})


def gemma_hidden(wide: dict[str, Vector], config: dict[str, Any], tokens: list[int]) -> Vector:
    """The hidden states [tokens, width] behind the last layer and its norm, of weights ``wide`` in float64."""
    wide = {name.removeprefix("model."): array for name, array in wide.items()}
    eps, length = config["rms_norm_eps"], len(tokens)

    def norm(x: Vector, name: str) -> Vector:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * (1 + wide[f"{name}.weight"])

    away = np.abs(np.arange(length)[:, None] - np.arange(length)[None])
    x = wide["embed_tokens.weight"][tokens] * math.sqrt(config["hidden_size"])
    for i in range(config["num_hidden_layers"]):
        at, attention = f"layers.{i}.", f"layers.{i}.self_attn."
        full = (i + 1) % config["_sliding_window_pattern"] == 0
        base = config["rope_theta" if full else "rope_local_base_freq"]
        known = norm(x, f"{at}input_layernorm")
        query, key, value = (
            (known @ wide[f"{attention}{name}_proj.weight"].T).reshape(length, -1, config["head_dim"])
            for name in ("q", "k", "v")
        )
        query, key = (_turned(norm(y, f"{attention}{n}_norm"), base) for y, n in ((query, "q"), (key, "k")))
        times = query.shape[1] // key.shape[1]
        key, value = np.repeat(key, times, axis=1), np.repeat(value, times, axis=1)
        scores = np.einsum("qhd,khd->hqk", query, key) / math.sqrt(config["query_pre_attn_scalar"])
        # Half of the window's width lies in each direction.
        scores = scores if full else np.where(away <= config["sliding_window"] // 2, scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        attended = np.einsum("hqk,khd->qhd", shares, value).reshape(length, -1)
        x = x + norm(attended @ wide[f"{attention}o_proj.weight"].T, f"{at}post_attention_layernorm")
        known = norm(x, f"{at}pre_feedforward_layernorm")
        gate, up = (known @ wide[f"{at}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        active = 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        x = x + norm((active * up) @ wide[f"{at}mlp.down_proj.weight"].T, f"{at}post_feedforward_layernorm")
    return norm(x, "norm")


def _turned(x: Vector, base: float) -> Vector:
    """Rotary positions of heads [tokens, heads, size]: the first half of each is turned with its second half."""
    half = x.shape[-1] // 2
    turns = np.exp(1j * np.arange(len(x))[:, None, None] * base ** (-np.arange(half) / half))
    turned = (x[..., :half] + 1j * x[..., half:]) * turns
    return np.concatenate([turned.real, turned.imag], axis=-1)

"""A llama in double precision, by its definition: what rounding in float32 is measured against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def log_probabilities(directory: Path, tokens: list[int]) -> Doubles:
    """Return those of the next token after each of ``tokens``: [tokens, vocabulary]. Its embedding is its head."""
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    stored: Any = mx.load(str(directory / "model.safetensors"))

    def weight(name: str) -> Doubles:
        return np.array(stored[f"model.{name}.weight"].astype(mx.float32)).astype(np.float64)

    def normed(x: Doubles, name: str) -> Doubles:
        scaled: Doubles = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + config["rms_norm_eps"]) * weight(name)
        return scaled

    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size, count = config["hidden_size"] // heads, len(tokens)
    angles = np.arange(count)[:, None] * config["rope_theta"] ** (-np.arange(size // 2) * 2 / size)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]

    def rotated(x: Doubles, shared: int) -> Doubles:
        one, other = np.split(x.reshape(count, shared, size), 2, axis=-1)
        return np.concatenate([one * cosine - other * sine, one * sine + other * cosine], axis=-1)

    later = np.triu(np.full((count, count), -np.inf), 1)
    x = weight("embed_tokens")[tokens]
    for layer in (f"layers.{number}" for number in range(config["num_hidden_layers"])):
        inner = normed(x, f"{layer}.input_layernorm")
        queries, keys, values = (inner @ weight(f"{layer}.self_attn.{part}_proj").T for part in "qkv")
        queries, keys, values = (
            rotated(queries, heads),
            rotated(keys, key_heads),
            values.reshape(count, key_heads, size),
        )
        keys, values = (np.repeat(each, heads // key_heads, axis=1) for each in (keys, values))
        scores = np.einsum("thd,shd->hts", queries, keys) / np.sqrt(size) + later
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        x = x + np.einsum("hts,shd->thd", shares, values).reshape(count, -1) @ weight(f"{layer}.self_attn.o_proj").T
        inner = normed(x, f"{layer}.post_attention_layernorm")
        gate, up = (inner @ weight(f"{layer}.mlp.{part}_proj").T for part in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weight(f"{layer}.mlp.down_proj").T
    logits = normed(x, "norm") @ weight("embed_tokens").T
    logits -= logits.max(axis=-1, keepdims=True)
    found: Doubles = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return found

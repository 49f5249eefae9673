"""A small random model of each family that native code knows, in memory."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.nn.layers.quantized import quantize
from mlx.utils import tree_map

from mlx_sidecar.engine.execution import mlxlm

_COMMON: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "intermediate_size": 192,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "vocab_size": 300,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
_FACTORS = [1.0 + 0.25 * i for i in range(8)]

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama, tied": {"model_type": "llama", "tie_word_embeddings": True},
    "llama, biased": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama, traditional rope": {"model_type": "llama", "rope_traditional": True},
    "llama, linear rope": {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama, llama3 rope": {"model_type": "llama", "rope_scaling": _LLAMA3},
    "llama, yarn rope": {"model_type": "llama", "rope_scaling": _YARN},
    "llama, windows": {
        "model_type": "llama",
        "sliding_window": 32,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "mistral": {"model_type": "mistral"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3"},
    "smollm3": {"model_type": "smollm3", "no_rope_layer_interval": 2, "no_rope_layers": [1, 0, 1]},
    "gemma2": {
        "model_type": "gemma2",
        "query_pre_attn_scalar": 16,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "query_pre_attn_scalar": 16,
        "sliding_window": 32,
        "sliding_window_pattern": 3,
        "rope_local_base_freq": 1000.0,
    },
    "phi3": {"model_type": "phi3", "partial_rotary_factor": 1.0},
    "phi3, partial rope": {"model_type": "phi3", "partial_rotary_factor": 0.5},
    "phi3, long rope": {
        "model_type": "phi3",
        "original_max_position_embeddings": 128,
        "rope_scaling": {"type": "longrope", "short_factor": _FACTORS, "long_factor": _FACTORS},
    },
    "granite": {
        "model_type": "granite",
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.2,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
        "attention_bias": False,
        "mlp_bias": False,
    },
    "olmo2": {"model_type": "olmo2"},
}


def make(name: str, *, dtype: mx.Dtype = mx.float32, bits: int | None = None, group: int = 64, **config: Any) -> Any:
    """Return a model of a family, evaluated; ``bits`` quantises it, ``config`` changes its config."""
    config = _COMMON | FAMILIES[name] | config
    model_class, arguments = mlxlm.get_classes(config)
    model = model_class(arguments.from_dict(config))
    if hasattr(model, "sanitize"):
        model.sanitize({"lm_head.weight": None})
    key = mx.random.key(7)

    def spread(array: mx.array) -> mx.array:
        nonlocal key
        key, use = mx.random.split(key)
        # Norms near what they are made as, other vectors and matrices wider than that: ties make poor tests.
        return array + 0.1 * mx.random.normal(array.shape, key=use)

    model.update(tree_map(spread, model.parameters()))
    model.update(tree_map(lambda a: a.astype(dtype), model.parameters()))
    if bits is not None:
        quantize(model, group_size=group, bits=bits)
    mx.eval(model.parameters())
    return model

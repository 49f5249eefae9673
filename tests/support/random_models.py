"""Tiny models with random weights, written to disk as any model is. One for each kind of cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_COMMON = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "vocab_size": 300,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3": {**_COMMON, "model_type": "qwen3"},
    "llama": {**_COMMON, "model_type": "llama"},
    # Every other layer sees 32 tokens only.
    "sliding": {
        **_COMMON,
        "model_type": "llama",
        "num_hidden_layers": 4,
        "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "mamba": {
        "model_type": "mamba",
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 128,
        "state_size": 8,
        "num_hidden_layers": 2,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
    },
    "lfm2": {
        **_COMMON,
        "model_type": "lfm2",
        "num_hidden_layers": 3,
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 64,
        "block_ff_dim": 128,
        "block_multiple_of": 32,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "full_attn_idxs": [1],
    },
    "qwen3_5": {
        "model_type": "qwen3_5",
        "text_config": {
            **_COMMON,
            "model_type": "qwen3_5_text",
            "num_hidden_layers": 4,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_conv_kernel_dim": 4,
            "full_attention_interval": 2,
        },
    },
    # Chunked attention: a cache that cannot be batched.
    "llama4": {
        "model_type": "llama4",
        "text_config": {
            **_COMMON,
            "model_type": "llama4_text",
            "num_hidden_layers": 4,
            "attention_bias": False,
            "attention_chunk_size": 32,
            "interleave_moe_layer_step": 1,
            "intermediate_size_mlp": 128,
            "num_experts_per_tok": 1,
            "num_local_experts": 2,
            "rope_scaling": None,
            "use_qk_norm": True,
        },
    },
}


def write_model(directory: Path, kind: str, *, seed: int = 0, dtype: str = "float32", bits: int | None = None) -> Path:
    """Make a model of ``kind`` (a key of ``CONFIGS``) in ``directory``; ``bits`` quantises it in groups of 32."""
    import mlx.core as mx
    from mlx.nn.layers.quantized import quantize
    from mlx.utils import tree_flatten, tree_map

    from mlx_sidecar.engine.execution import mlxlm

    config = dict(CONFIGS[kind])
    mx.random.seed(seed)  # what the modules' own initialisation draws from
    model_class, arguments = mlxlm.get_classes(config)
    model = model_class(arguments.from_dict(config))
    key = mx.random.key(seed)

    def spread(array: mx.array) -> mx.array:
        # Wider than the usual initialisation: near ties and endless repetitions make poor tests.
        nonlocal key
        key, use = mx.random.split(key)
        return array + 0.08 * mx.random.normal(array.shape, key=use) if array.ndim > 1 else array

    model.update(tree_map(spread, model.parameters()))
    if bits is not None:
        quantize(model, group_size=32, bits=bits)
        config["quantization"] = {"group_size": 32, "bits": bits, "mode": "affine"}
    to = getattr(mx, dtype)
    cast = tree_map(lambda a: a.astype(to) if mx.issubdtype(a.dtype, mx.floating) else a, model.parameters())
    directory.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(directory / "model.safetensors"), dict(tree_flatten(cast)), metadata={"format": "mlx"})
    (directory / "config.json").write_text(json.dumps(config))
    return directory

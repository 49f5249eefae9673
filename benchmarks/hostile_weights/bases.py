"""Sound small model directories of several kinds, which are then mutated."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mlx_sidecar import pocket
from tests.support.random_models import CONFIGS, write_model

_COMMON: dict[str, Any] = {
    **CONFIGS["qwen3"],
    "moe_intermediate_size": 32,
    "num_experts_per_tok": 2,
    "attention_bias": False,
}

# Beside those of the tests: mixtures of experts, and layers that a pattern names.
CONFIGS |= {
    "qwen3_moe": {
        **_COMMON,
        "model_type": "qwen3_moe",
        "num_experts": 4,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
    },
    "mixtral": {**_COMMON, "model_type": "mixtral", "num_local_experts": 4, "tie_word_embeddings": False},
    "gpt_oss": {
        **_COMMON,
        "model_type": "gpt_oss",
        "num_local_experts": 4,
        "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 32.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "original_max_position_embeddings": 4096,
        },
    },
    "deepseek_v3": {
        **_COMMON,
        "model_type": "deepseek_v3",
        "num_key_value_heads": 4,
        "n_shared_experts": 1,
        "n_routed_experts": 4,
        "kv_lora_rank": 32,
        "q_lora_rank": 32,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "qk_nope_head_dim": 8,
        "first_k_dense_replace": 1,
        "tie_word_embeddings": False,
    },
    "nemotron_h": {
        **_COMMON,
        "model_type": "nemotron_h",
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "mamba_proj_bias": False,
        "ssm_state_size": 16,
        "conv_kernel": 4,
        "n_groups": 2,
        "mlp_bias": False,
        "layer_norm_epsilon": 1e-5,
        "use_bias": False,
        "use_conv_bias": True,
        "hybrid_override_pattern": ["M", "*", "-"],
    },
}

_PACKED = ("qwen3", "llama", "qwen3_moe", "mixtral", "gpt_oss")  # all their rows are long enough


def write_bases(root: Path) -> list[Path]:
    """Write one directory for each kind, with pocket's tokenizer, and pocket itself."""
    made = [root / "pocket"]
    _copy(pocket.PATH, made[0])
    for kind in CONFIGS:
        for bits in (None, 4) if kind in _PACKED else (None,):
            made.append(write_model(root / f"{kind}-{bits}", kind, bits=bits, dtype="bfloat16" if bits else "float32"))
            for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
                if (pocket.PATH / name).exists():
                    shutil.copy(pocket.PATH / name, made[-1])
    return made


def _copy(source: Path, to: Path) -> None:
    to.mkdir()
    for file in source.iterdir():
        if file.suffix in (".json", ".jinja", ".safetensors"):
            shutil.copy(file, to)

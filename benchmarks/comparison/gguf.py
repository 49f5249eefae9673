"""The embedded model as a GGUF file in float32, so that llama.cpp computes the same weights.

python -m benchmarks.comparison.gguf FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mlx_sidecar import pocket

_CONTROL, _NORMAL, _USER_DEFINED = 3, 1, 4  # kinds of token, as llama.cpp numbers them

# Names of a layer's tensors in the model, and in GGUF.
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}


def write(path: Path) -> None:
    """Write the file; its name ends in .gguf, because mlx takes no other."""
    import mlx.core as mx

    loaded = mx.load(str(pocket.PATH / "model.safetensors"))
    assert isinstance(loaded, dict)
    tensors = {name_in_gguf(name): array.astype(mx.float32) for name, array in loaded.items()}
    mx.save_gguf(str(path), tensors, _description(json.loads((pocket.PATH / "config.json").read_text())))


def name_in_gguf(name: str) -> str:
    """Return GGUF's name of one of the model's tensors. Raises KeyError if it has none."""
    part = name.removesuffix(".weight")
    if not part.startswith("model.layers."):
        return f"{_OUTSIDE[part]}.weight"
    layer, _, rest = part.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{_LAYER[rest]}.weight"


def _description(config: dict[str, Any]) -> dict[str, Any]:
    import mlx.core as mx

    counts = {
        "context_length": "max_position_embeddings",
        "embedding_length": "hidden_size",
        "block_count": "num_hidden_layers",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.head_count_kv": "num_key_value_heads",
        "attention.key_length": "head_dim",
        "attention.value_length": "head_dim",
    }
    return {
        "general.architecture": "qwen3",
        "general.name": "pocket",
        **{f"qwen3.{ours}": mx.array(config[theirs], dtype=mx.uint32) for ours, theirs in counts.items()},
        "qwen3.attention.layer_norm_rms_epsilon": mx.array(config["rms_norm_eps"]),
        "qwen3.rope.freq_base": mx.array(config["rope_theta"]),
        **_tokenizer(config["vocab_size"]),
    }


def _tokenizer(size: int) -> dict[str, Any]:
    import mlx.core as mx

    tokenizer = json.loads((pocket.PATH / "tokenizer.json").read_text())
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    words = {id_: word for word, id_ in tokenizer["model"]["vocab"].items()}
    words |= {id_: token["content"] for id_, token in added.items()}
    kinds = [_kind(added.get(id_)) for id_ in range(size)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",  # the same pattern as pocket's
        "tokenizer.ggml.tokens": [words[id_] for id_ in range(size)],
        "tokenizer.ggml.token_type": mx.array(kinds, dtype=mx.int32),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": mx.array(2, dtype=mx.uint32),
        "tokenizer.ggml.padding_token_id": mx.array(0, dtype=mx.uint32),
        "tokenizer.ggml.add_bos_token": mx.array(False),
        "tokenizer.chat_template": (pocket.PATH / "chat_template.jinja").read_text(),
    }


def _kind(added: dict[str, Any] | None) -> int:
    if added is None:
        return _NORMAL
    return _CONTROL if added["special"] else _USER_DEFINED


if __name__ == "__main__":
    write(Path(sys.argv[1]))

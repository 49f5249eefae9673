"""A random llama model as a GGUF file, for llama.cpp.

python -m benchmarks.serving.gguf_model FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_CONTROL, _NORMAL = 3, 1  # kinds of token, as llama.cpp numbers them

# Our names of a layer's tensors, and GGUF's.
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def convert(folder: Path) -> Path:
    """Write the model in ``folder`` as ``model.gguf`` beside it unless it is there, in a process that imports mlx."""
    path = folder / "model.gguf"
    if not path.exists():
        subprocess.run([sys.executable, "-m", "benchmarks.serving.gguf_model", str(folder)], check=True)
    return path


def write(folder: Path) -> None:
    import mlx.core as mx

    config = json.loads((folder / "config.json").read_text())
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    tensors = {gguf_name(name): _turned(name, array, config) for name, array in weights.items()}
    # mlx takes no other ending than this one.
    mx.save_gguf(str(folder / "writing.gguf"), tensors, _description(folder, config))
    (folder / "writing.gguf").replace(folder / "model.gguf")


def gguf_name(name: str) -> str:
    """Return GGUF's name of one of our tensors. Raises KeyError if it has none."""
    if name.startswith("model.layers."):
        layer, _, rest = name.removeprefix("model.layers.").partition(".")
        return f"blk.{layer}.{_LAYER[rest.removesuffix('.weight')]}.weight"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]


def _turned(name: str, array: Any, config: dict[str, Any]) -> Any:
    """Reorder rows of queries and keys, because llama.cpp rotates neighbouring pairs where mlx-lm rotates halves."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    part = name.split(".")[-2]
    if part not in heads:
        return array
    rows, columns = array.shape
    halves = array.reshape(config[heads[part]], 2, -1, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def _description(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The model's shape under GGUF's names, and its tokenizer."""
    import mlx.core as mx

    counts = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "rope.dimension_count": config["hidden_size"] // config["num_attention_heads"],
        "vocab_size": config["vocab_size"],
    }
    return {
        "general.architecture": "llama",
        "general.name": "random",
        **{f"llama.{name}": mx.array(count, dtype=mx.uint32) for name, count in counts.items()},
        "llama.attention.layer_norm_rms_epsilon": mx.array(config["rms_norm_eps"]),
        "llama.rope.freq_base": mx.array(config["rope_theta"]),
        **_tokenizer(folder, config["vocab_size"]),
    }


def _tokenizer(folder: Path, size: int) -> dict[str, Any]:
    """The tokenizer without end-of-text, because the model does not know it: requests say ignore_eos."""
    import mlx.core as mx

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    by_id = {id_: name for name, id_ in tokenizer["model"]["vocab"].items()}
    special = {token["id"] for token in tokenizer["added_tokens"]}
    kinds = [_CONTROL if id_ in special else _NORMAL for id_ in range(size)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",  # the same pattern as pocket's
        "tokenizer.ggml.tokens": [by_id[id_] for id_ in range(size)],
        "tokenizer.ggml.token_type": mx.array(kinds, dtype=mx.int32),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.add_bos_token": mx.array(False),
        "tokenizer.chat_template": (folder / "chat_template.jinja").read_text(),
    }


if __name__ == "__main__":
    write(Path(sys.argv[1]))

"""A random llama model as a GGUF file, for llama.cpp; needs the package ``gguf`` (and numpy, which it brings).

python -m benchmarks.serving.gguf_model FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
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


def available() -> bool:
    return find_spec("gguf") is not None


def convert(folder: Path) -> Path:
    """Write the model in ``folder`` as ``model.gguf`` beside it unless it is there, in a process that imports mlx."""
    path = folder / "model.gguf"
    if not path.exists():
        subprocess.run([sys.executable, "-m", "benchmarks.serving.gguf_model", str(folder)], check=True)
    return path


def write(folder: Path) -> None:
    import mlx.core as mx

    gguf: Any = import_module("gguf")
    numpy: Any = import_module("numpy")
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(str(folder / "model.gguf"), "llama")
    _describe(writer, config)
    _tokens(writer, folder, config["vocab_size"])
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    for name, array in weights.items():
        writer.add_tensor(gguf_name(name), numpy.array(_turned(name, array, config)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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


def _describe(writer: Any, config: dict[str, Any]) -> None:
    writer.add_name("random")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])


def _tokens(writer: Any, folder: Path, size: int) -> None:
    """Write the tokenizer without end-of-text, because the model does not know it: requests say ignore_eos."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    by_id = {id_: name for name, id_ in tokenizer["model"]["vocab"].items()}
    special = {token["id"] for token in tokenizer["added_tokens"]}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")  # the same pattern as pocket's
    writer.add_token_list([by_id[id_] for id_ in range(size)])
    writer.add_token_types([_CONTROL if id_ in special else _NORMAL for id_ in range(size)])
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())


if __name__ == "__main__":
    write(Path(sys.argv[1]))

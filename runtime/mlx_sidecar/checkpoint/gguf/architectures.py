"""Tables of the architectures that are imported: their tensors under both names, and what GGUF changed in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Part(NamedTuple):
    """One tensor of a layer or of a model. ``axes`` are letters of ``Sizes.extent``, rows first."""

    name: str
    axes: str


@dataclass(frozen=True)
class Architecture:
    """How GGUF keeps one architecture, and which of mlx-lm's models it is.

    ``interleaved_rope``: GGUF moved the rows of query and key projections, so that the two numbers which one rotation
    turns stand next to each other. ``raised_norms``: GGUF added 1 to the weights of norms. ``biases`` are those that
    every layer has, ``optional_biases`` those that a layer has all of or none, by the config's flag for them.
    ``always_tied``: the output is always the embedding. ``overflows_half``: activations go beyond float16.
    """

    model_type: str
    model_class: str
    layer: Mapping[str, Part]
    interleaved_rope: bool = False
    raised_norms: bool = False
    biases: tuple[str, ...] = ()
    optional_biases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    always_tied: bool = False
    overflows_half: bool = False


OUTER = {"token_embd": Part("model.embed_tokens", "VE"), "output_norm": Part("model.norm", "E")}
OUTPUT = {"output": Part("lm_head", "VE")}

_QKV = {
    "attn_q": Part("self_attn.q_proj", "QE"),
    "attn_k": Part("self_attn.k_proj", "KE"),
    "attn_v": Part("self_attn.v_proj", "KE"),
}
_MLP = {
    "ffn_gate": Part("mlp.gate_proj", "FE"),
    "ffn_up": Part("mlp.up_proj", "FE"),
    "ffn_down": Part("mlp.down_proj", "EF"),
}
_OUT = {"attn_output": Part("self_attn.o_proj", "EQ")}
_NORMS = {"attn_norm": Part("input_layernorm", "E"), "ffn_norm": Part("post_attention_layernorm", "E")}
_HEAD_NORMS = {"attn_q_norm": Part("self_attn.q_norm", "H"), "attn_k_norm": Part("self_attn.k_norm", "H")}
_LLAMA = _NORMS | _QKV | _OUT | _MLP
_FOUR_NORMS = {
    "attn_norm": Part("input_layernorm", "E"),
    "post_attention_norm": Part("post_attention_layernorm", "E"),
    "ffn_norm": Part("pre_feedforward_layernorm", "E"),
    "post_ffw_norm": Part("post_feedforward_layernorm", "E"),
}
_GEMMA = _FOUR_NORMS | _QKV | _OUT | _MLP
_PHI3 = {
    **_NORMS,
    "attn_qkv": Part("self_attn.qkv_proj", "SE"),
    **_OUT,
    "ffn_up": Part("mlp.gate_up_proj", "GE"),
    "ffn_down": Part("mlp.down_proj", "EF"),
}
_OLMO2 = {
    **_QKV,
    **_OUT,
    **_MLP,
    "attn_q_norm": Part("self_attn.q_norm", "Q"),
    "attn_k_norm": Part("self_attn.k_norm", "K"),
    "post_attention_norm": Part("post_attention_layernorm", "E"),
    "post_ffw_norm": Part("post_feedforward_layernorm", "E"),
}
_LLAMA_BIASES = {
    "attention_bias": ("attn_q", "attn_k", "attn_v", "attn_output"),
    "mlp_bias": ("ffn_gate", "ffn_up", "ffn_down"),
}
_LLAMA_LIKE = Architecture("llama", "LlamaForCausalLM", _LLAMA, interleaved_rope=True, optional_biases=_LLAMA_BIASES)

# By general.architecture. Mistral's models are llama to GGUF, the newer ones mistral3 unless they scale attention.
ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA_LIKE,
    "mistral3": _LLAMA_LIKE,
    "smollm3": Architecture(
        "smollm3", "SmolLM3ForCausalLM", _LLAMA, interleaved_rope=True, optional_biases=_LLAMA_BIASES
    ),
    "granite": Architecture(
        "granite", "GraniteForCausalLM", _LLAMA, interleaved_rope=True, optional_biases=_LLAMA_BIASES
    ),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM", _LLAMA, biases=("attn_q", "attn_k", "attn_v")),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", _LLAMA | _HEAD_NORMS),
    "gemma2": Architecture(
        "gemma2", "Gemma2ForCausalLM", _GEMMA, raised_norms=True, always_tied=True, overflows_half=True
    ),
    "gemma3": Architecture("gemma3_text", "Gemma3ForCausalLM", _GEMMA | _HEAD_NORMS, raised_norms=True),
    "phi3": Architecture("phi3", "Phi3ForCausalLM", _PHI3),
    "olmo2": Architecture("olmo2", "Olmo2ForCausalLM", _OLMO2),
}


@dataclass(frozen=True)
class Sizes:
    """The extents of a model's tensors. A head has ``head_size`` numbers."""

    vocabulary: int
    embedding: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int

    def extent(self, letter: str) -> int:
        """The extent that ``letter`` stands for in ``Part.axes``."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return {
            "V": self.vocabulary,
            "E": self.embedding,
            "F": self.feed_forward,
            "G": 2 * self.feed_forward,
            "H": self.head_size,
            "Q": queries,
            "K": keys,
            "S": queries + 2 * keys,
        }[letter]

    def shape(self, axes: str) -> tuple[int, ...]:
        return tuple(self.extent(letter) for letter in axes)

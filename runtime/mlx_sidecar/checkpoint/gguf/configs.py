"""Makes the config.json of an imported model from the metadata of its GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..config_limits import LAYERS_LIMIT
from .architectures import ARCHITECTURES, Architecture, Sizes
from .metadata import Metadata
from .rope import ReadFactors, rope_scaling

# Of the 27-billion models, which GGUF does not mark otherwise, query_pre_attn_scalar is not the size of a head.
_GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3": 62}
_GEMMA3_PERIOD = 6
_SMOLLM3_PERIOD = 4
_GEMMA2_WINDOW, _GEMMA2_ATTENTION_CAP, _GEMMA2_FINAL_CAP = 4096, 50.0, 30.0

Config = dict[str, Any]


def architecture_of(meta: Metadata) -> tuple[str, Architecture]:
    """The name in ``general.architecture`` and its table. Raises ModelUnsupported naming one that is not imported."""
    key = "general.architecture"
    name = meta.text(key)
    if name not in ARCHITECTURES:
        raise meta.unsupported(key, f"{name!r} is not imported; these are: {', '.join(sorted(ARCHITECTURES))}")
    return name, ARCHITECTURES[name]


def sizes(meta: Metadata, prefix: str, vocabulary: int) -> Sizes:
    """The extents that the metadata below ``prefix`` give. Raises ModelLoadFailed naming one that cannot be."""
    embedding, layers = meta.count(f"{prefix}.embedding_length"), meta.count(f"{prefix}.block_count")
    heads = meta.count(f"{prefix}.attention.head_count")
    for key, value in ((f"{prefix}.attention.head_count", heads), (f"{prefix}.embedding_length", embedding)):
        if value == 0:
            raise meta.damaged(key, "it is 0")
    if layers > LAYERS_LIMIT:
        raise meta.damaged(f"{prefix}.block_count", f"{layers} is above {LAYERS_LIMIT}")
    head_size = meta.count(key := f"{prefix}.attention.key_length", embedding // heads)
    if head_size == 0 or head_size % 2:
        raise meta.damaged(key, f"heads of {head_size} numbers cannot be turned")
    if meta.count(f"{prefix}.attention.value_length", head_size) != head_size:
        raise meta.unsupported(f"{prefix}.attention.value_length", "it is not key_length")
    kv_heads = meta.count(f"{prefix}.attention.head_count_kv", heads)
    if kv_heads == 0 or heads % kv_heads:
        raise meta.damaged(f"{prefix}.attention.head_count_kv", f"{kv_heads} does not divide {heads} heads")
    feed_forward = meta.count(f"{prefix}.feed_forward_length")
    return Sizes(vocabulary, embedding, feed_forward, layers, heads, kv_heads, head_size)


def config(meta: Metadata, prefix: str, sizes: Sizes, factors: ReadFactors, *, tied: bool) -> Config:
    """config.json but for its tokens, types and quantisation. ``factors`` as in ``rope.rope_scaling``.

    Raises ModelUnsupported naming the first key below ``prefix`` that is not known, or whose value mlx-lm cannot do.
    """
    architecture = ARCHITECTURES[prefix]
    _refuse_others(meta, prefix)
    rotated = meta.count(f"{prefix}.rope.dimension_count", sizes.head_size)
    if rotated != sizes.head_size and prefix != "phi3":
        raise meta.unsupported(f"{prefix}.rope.dimension_count", f"{rotated} of {sizes.head_size} numbers of a head")
    theta = meta.number(key := f"{prefix}.rope.freq_base", 10_000.0)
    if theta <= 0:
        raise meta.damaged(key, f"{theta} is no base of powers")
    made: Config = {
        "architectures": [architecture.model_class],
        "model_type": architecture.model_type,
        "hidden_act": "gelu_pytorch_tanh" if architecture.raised_norms else "silu",
        "hidden_size": sizes.embedding,
        "intermediate_size": sizes.feed_forward,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_size,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": meta.count(f"{prefix}.context_length"),
        "rope_theta": theta,
        "rms_norm_eps": meta.number(f"{prefix}.attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": tied,
    }
    if (scaling := rope_scaling(meta, prefix, factors, theta, rotated)) is not None:
        made["rope_scaling"] = scaling
    if prefix in _MORE:
        made |= _MORE[prefix](meta, prefix, sizes)
    if not _HAS_HEAD_DIM & {architecture.model_type} and sizes.head_size * sizes.heads != sizes.embedding:
        raise meta.unsupported(f"{prefix}.attention.key_length", "mlx-lm takes embedding_length / head_count here")
    _refuse_scaling(meta, prefix, made)
    meta.refuse_unread(f"{prefix}.")
    return made


_HAS_HEAD_DIM = {"llama", "smollm3", "qwen3", "gemma2", "gemma3_text", "olmo2"}
_SCALES_ROPE = {
    "phi3": ("longrope", "linear"),
    "gemma2": (),
    **dict.fromkeys(("llama", "mistral3", "smollm3", "granite"), ("linear", "yarn", "llama3", "longrope")),
    **dict.fromkeys(("qwen2", "qwen3", "olmo2"), ("linear", "yarn")),
    "gemma3": ("linear",),
}


def _refuse_scaling(meta: Metadata, prefix: str, made: Config) -> None:
    kind = made.get("rope_scaling", {}).get("rope_type")
    if kind is not None and kind not in _SCALES_ROPE[prefix]:
        raise meta.unsupported(f"{prefix}.rope.scaling.type", f"{kind!r} is not known for {prefix}")


def _refuse_others(meta: Metadata, prefix: str) -> None:
    """Raise ModelUnsupported for what another kind of model has: experts, a pooled output, attention to both sides."""
    if meta.count(key := f"{prefix}.expert_count", 0):
        raise meta.unsupported(key, "mixtures of experts are not imported")
    if not meta.flag(key := f"{prefix}.attention.causal", default=True):
        raise meta.unsupported(key, "its attention is not causal")
    if meta.count(key := "split.count", 0) > 1:
        raise meta.unsupported(key, "the model is split into several files; llama-gguf-split --merge joins them")
    # The size of the vocabulary is that of the embedding; with no experts none are used; the layout is of old files.
    meta.skip(f"{prefix}.{name}" for name in ("vocab_size", "expert_used_count", "tensor_data_layout"))


def _llama(meta: Metadata, prefix: str, _: Sizes) -> Config:
    """Llama. A window on all layers is refused, because mlx-lm's llama needs a layer without one."""
    key = f"{prefix}.attention.sliding_window"
    window = meta.count(key, 0)
    if 0 < window < meta.count(f"{prefix}.context_length"):
        raise meta.unsupported(key, f"a window of {window} tokens on all layers")
    return {}


def _granite(meta: Metadata, prefix: str, sizes: Sizes) -> Config:
    if not meta.flag(key := f"{prefix}.rope.scaling.finetuned", default=True):
        raise meta.unsupported(key, "a model without rotations")
    return {
        "attention_multiplier": meta.number(f"{prefix}.attention.scale", sizes.head_size**-0.5),
        "embedding_multiplier": meta.number(f"{prefix}.embedding_scale", 1.0),
        "residual_multiplier": meta.number(f"{prefix}.residual_scale", 1.0),
        "logits_scaling": meta.number(f"{prefix}.logit_scale"),
        "attention_bias": False,
        "mlp_bias": False,
    }


def _gemma_scalar(prefix: str, sizes: Sizes) -> float:
    is_27b = sizes.layers == _GEMMA_27B_LAYERS[prefix]
    return sizes.embedding // sizes.heads if is_27b else sizes.head_size


def _gemma2(meta: Metadata, prefix: str, sizes: Sizes) -> Config:
    return {
        "query_pre_attn_scalar": _gemma_scalar(prefix, sizes),
        "attn_logit_softcapping": meta.number(f"{prefix}.attn_logit_softcapping", _GEMMA2_ATTENTION_CAP),
        "final_logit_softcapping": meta.number(f"{prefix}.final_logit_softcapping", _GEMMA2_FINAL_CAP),
        "sliding_window": meta.count(f"{prefix}.attention.sliding_window", _GEMMA2_WINDOW),
    }


def _gemma3(meta: Metadata, prefix: str, sizes: Sizes) -> Config:
    key = f"{prefix}.attention.sliding_window_pattern"
    pattern = meta.raw(key)
    period = _GEMMA3_PERIOD if pattern is None else pattern
    if isinstance(period, int) and period < 1:
        raise meta.damaged(key, f"{period} is no count of layers")
    if not isinstance(period, int):
        slides = [bool(slide) for slide in meta.numbers(key, sizes.layers, "iub")]
        period = slides.index(False) + 1 if False in slides else len(slides) + 1
        if slides != [(layer + 1) % period != 0 for layer in range(sizes.layers)]:
            raise meta.unsupported(key, "its layers do not slide in turns")
    return {
        "query_pre_attn_scalar": _gemma_scalar(prefix, sizes),
        "rope_local_base_freq": meta.number(f"{prefix}.rope.freq_base_swa", 10_000.0),
        "sliding_window": meta.count(f"{prefix}.attention.sliding_window"),
        "sliding_window_pattern": period,
    }


def _phi3(meta: Metadata, prefix: str, sizes: Sizes) -> Config:
    # mlx-lm and llama.cpp both attend to the whole context, whatever window the file tells.
    window = meta.count(f"{prefix}.attention.sliding_window", 0)
    rotated = meta.count(f"{prefix}.rope.dimension_count", sizes.head_size)
    original = meta.optional_count(f"{prefix}.rope.scaling.original_context_length")
    return {
        "sliding_window": window or None,
        "partial_rotary_factor": rotated / max(sizes.head_size, 1),
        "original_max_position_embeddings": original or meta.count(f"{prefix}.context_length"),
    }


def _smollm3(_: Metadata, __: str, sizes: Sizes) -> Config:
    """SmolLM3. Every fourth layer is without rotations, which GGUF does not say."""
    return {"no_rope_layers": [int((layer + 1) % _SMOLLM3_PERIOD != 0) for layer in range(sizes.layers)]}


_MORE: dict[str, Callable[[Metadata, str, Sizes], Config]] = {
    "llama": _llama,
    "mistral3": _llama,
    "granite": _granite,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi3": _phi3,
    "smollm3": _smollm3,
}

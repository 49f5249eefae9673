"""Writes small random GGUF files of each architecture with the gguf package, as llama.cpp's own conversion does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

EMBEDDING, FEED_FORWARD, HEADS, KV_HEADS, HEAD = 64, 96, 4, 2, 16
_ROOM = 512  # tokens of context

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Example:
    """One architecture, or one way of it; ``say`` adds what only its files have."""

    architecture: str
    layers: int = 2
    kind: str = "gpt2"
    pre: str = "gpt-2"
    tied: bool = False
    say: Callable[[Any, str], None] = lambda writer, prefix: None
    tensors: dict[str, Array] = field(default_factory=dict)


def _gemma2(writer: Any, _: str) -> None:
    writer.add_attn_logit_softcapping(50.0)
    writer.add_final_logit_softcapping(30.0)
    writer.add_sliding_window(_ROOM)


def _gemma3(writer: Any, _: str) -> None:
    writer.add_sliding_window(8)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)


def _granite(writer: Any, _: str) -> None:
    writer.add_attention_scale(0.2)
    writer.add_embedding_scale(6.0)
    writer.add_residual_scale(0.4)
    writer.add_logit_scale(3.0)


def _phi3(writer: Any, _: str) -> None:
    writer.add_rope_scaling_orig_ctx_len(_ROOM)
    writer.add_sliding_window(0)


def _yarn(writer: Any, _: str) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(_ROOM // 4)


def llama3_factors(factor: float = 8.0, theta: float = 10_000.0) -> Array:
    """Factors of rotations as in the files of Llama 3.1."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, HEAD, 2) / HEAD)
    smooth = np.clip((8192 / wavelengths - 1) / 3, 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


EXAMPLES: dict[str, Example] = {
    "llama": Example("llama", kind="llama", pre="default"),
    "llama3": Example("llama", pre="llama-bpe", tied=True, tensors={"rope_freqs.weight": llama3_factors()}),
    "mistral3": Example("mistral3", pre="tekken"),
    "qwen2": Example("qwen2", pre="qwen2", tied=True),
    "qwen2 yarn": Example("qwen2", pre="qwen2", say=_yarn),
    "qwen3": Example("qwen3", pre="qwen2"),
    "gemma2": Example("gemma2", kind="llama", pre="default", tied=True, say=_gemma2),
    "gemma3": Example("gemma3", layers=7, kind="llama", pre="default", tied=True, say=_gemma3),
    "phi3": Example("phi3", kind="llama", pre="default", say=_phi3),
    "smollm3": Example("smollm3", layers=5, pre="smaug-bpe", tied=True),
    "granite": Example("granite", pre="refact", tied=True, say=_granite),
    "olmo2": Example("olmo2", pre="dbrx"),
}


def write_example(path: Path, name: str, kind: Kind = Kind.F32, seed: int = 0) -> None:
    """Write the example ``name`` to ``path``, with matrices of a ``kind`` that the gguf package can quantise to."""
    example, rng = EXAMPLES[name], np.random.default_rng(seed)
    writer: Any = gguf.GGUFWriter(path, example.architecture)
    add_sizes(writer, example)
    example.say(writer, example.architecture)
    vocabulary = add_tokenizer(writer, example.kind, example.pre)
    tensors = {**_random(example, vocabulary, rng), **example.tensors}
    for each, values in tensors.items():
        matrix = values.ndim > 1
        data = gguf.quants.quantize(values, kind) if matrix else values
        writer.add_tensor(each, data, raw_dtype=kind if matrix else None)
    close(writer)


def close(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_sizes(writer: Any, example: Example) -> None:
    writer.add_name("example")
    writer.add_block_count(example.layers)
    writer.add_context_length(_ROOM)
    writer.add_embedding_length(EMBEDDING)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)


def byte_letters() -> list[str]:
    """The letter that byte-level tokenizers write for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def add_tokenizer(writer: Any, kind: str, pre: str) -> int:
    """Say a small tokenizer of the ``kind``; returns the size of its vocabulary, a multiple of 32."""
    control = ["<s>", "</s>", "<|im_end|>"]
    if kind == "gpt2":
        words = [*byte_letters(), "he", "ll", "hell", "hello", "Ġhello", "Ġh"]
        merges = ["h e", "l l", "he ll", "hell o", "Ġ hello"]
        texts, scores = [*control, *words], None
        kinds = [3] * len(control) + [1] * len(words)
    else:
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
        words = ["▁", *"abcdefghijklmnopqrstuvwxyz", "he", "ll", "hell", "hello", "▁hello", "▁h"]
        texts, merges = ["<unk>", *control, *bytes_, *words, "<mark>"], []
        scores = [0.0] * (len(texts) - len(words) - 1) + [-float(number) for number in range(len(words))] + [0.0]
        kinds = [2] + [3] * len(control) + [6] * 256 + [1] * len(words) + [4]
    padding = -len(texts) % 32
    texts, kinds = [*texts, *(f"[PAD{n}]" for n in range(padding))], [*kinds, *[5] * padding]
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    if scores is None:
        writer.add_token_merges(merges)
    else:
        writer.add_token_scores([*scores, *[-1000.0] * padding])
        writer.add_unk_token_id(0)
    writer.add_bos_token_id(texts.index("<s>"))
    writer.add_eos_token_id(texts.index("</s>"))
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    return len(texts)


def _random(example: Example, vocabulary: int, rng: np.random.Generator) -> dict[str, Array]:
    raised = 1.0 if example.architecture.startswith("gemma") else 0.0

    def matrix(rows: int, columns: int) -> Array:
        return rng.normal(0, 1.5 / np.sqrt(columns), (rows, columns)).astype(np.float32)

    def norm(size: int) -> Array:
        return (rng.normal(1 - raised, 0.2, size) + raised).astype(np.float32)

    queries, keys = HEADS * HEAD, KV_HEADS * HEAD
    tensors = {"token_embd.weight": matrix(vocabulary, EMBEDDING), "output_norm.weight": norm(EMBEDDING)}
    if not example.tied:
        tensors["output.weight"] = matrix(vocabulary, EMBEDDING)
    norms = {
        "olmo2": ("post_attention_norm", "post_ffw_norm"),
        "gemma2": ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"),
        "gemma3": ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"),
    }.get(example.architecture, ("attn_norm", "ffn_norm"))
    for layer in range(example.layers):
        stem = f"blk.{layer}."
        parts = {"attn_output": matrix(EMBEDDING, queries), "ffn_down": matrix(EMBEDDING, FEED_FORWARD)}
        if example.architecture == "phi3":
            parts |= {
                "attn_qkv": matrix(queries + 2 * keys, EMBEDDING),
                "ffn_up": matrix(2 * FEED_FORWARD, EMBEDDING),
            }
        else:
            parts |= {
                "attn_q": matrix(queries, EMBEDDING),
                "attn_k": matrix(keys, EMBEDDING),
                "attn_v": matrix(keys, EMBEDDING),
                "ffn_gate": matrix(FEED_FORWARD, EMBEDDING),
                "ffn_up": matrix(FEED_FORWARD, EMBEDDING),
            }
        parts |= {name: norm(EMBEDDING) for name in norms}
        if example.architecture in ("qwen3", "gemma3"):
            parts |= {"attn_q_norm": norm(HEAD), "attn_k_norm": norm(HEAD)}
        if example.architecture == "olmo2":
            parts |= {"attn_q_norm": norm(queries), "attn_k_norm": norm(keys)}
        tensors |= {f"{stem}{name}.weight": values for name, values in parts.items()}
        if example.architecture == "qwen2":
            sizes = {"attn_q": queries, "attn_k": keys, "attn_v": keys}
            tensors |= {
                f"{stem}{name}.bias": rng.normal(0, 0.5, size).astype(np.float32) for name, size in sizes.items()
            }
    return tensors

"""Reads from mlx-lm's module tree what a decoder of the llama family consists of.

A model is recognised by mlx-lm's class and by its structure: every submodule must be one that is known here. What was
read is then proven by logits (``proof``), as far as short rows can show it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..interfaces import Cache, Model, has_entries, is_window
from .weights import NotNative, Weights, vector

if TYPE_CHECKING:
    from mlx_sidecar_native._native import cpu


class _Family(NamedTuple):
    """Ways in which modules of a family differ from their names. ``norm_plus`` is added to weights of norms."""

    activation: str = "silu"
    norm_plus: float = 0.0
    before_mlp: str = "post_attention_layernorm"
    after_attention: str = ""
    after_mlp: str = ""
    before_attention: str = "input_layernorm"
    norms_whole: bool = False


_GEMMA = _Family(
    "gelu_tanh", 1.0, "pre_feedforward_layernorm", "post_attention_layernorm", "post_feedforward_layernorm"
)
FAMILIES = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "smollm3", "phi3", "granite"), _Family()),
    **dict.fromkeys(("gemma2", "gemma3_text"), _GEMMA),
    "olmo2": _Family(
        before_mlp="",
        after_attention="post_attention_layernorm",
        after_mlp="post_feedforward_layernorm",
        before_attention="",
        norms_whole=True,
    ),
}
_MODELS = "mlx_lm.models."


def read_spec(model: Model, caches: Sequence[Cache], weights: Weights, kernels: Any) -> cpu.Spec:
    """Return the spec of ``model``, whose layers have ``caches``, mlx-lm's own; its matrices are in ``weights``.

    Raises ``NotNative`` for a model that is not recognised.
    """
    return _Reader(model, weights, kernels).read(caches)


class _Reader:
    def __init__(self, model: Model, weights: Weights, kernels: Any) -> None:
        name = type(model).__module__
        self._name = name.removeprefix(_MODELS)
        if not name.startswith(_MODELS) or self._name not in FAMILIES:
            raise NotNative(f"{self._name} is not a model that it knows")
        self._family = FAMILIES[self._name]
        self._model: Any = model
        self._weights = weights
        self._cpu = kernels
        self._ropes: dict[tuple[object, ...], int] = {}

    def read(self, caches: Sequence[Cache]) -> cpu.Spec:
        model, inner = self._model, self._model.model
        spec: cpu.Spec = self._cpu.Spec()
        tied = "lm_head" not in model
        _only(model, {"model", "lm_head"})
        _only(inner, {"embed_tokens", "layers", "norm"})
        spec.embedding = self._weights.matrix(inner.embed_tokens)
        spec.norm = self._norm(inner.norm)
        spec.head = self._cpu.Projection(spec.embedding) if tied else self._weights.projection(model.lm_head)
        windows = [_window(cache) for cache in caches]
        for block, window in zip(inner.layers, windows, strict=True):
            _check_window(inner, block, window)
        # The kind with most layers comes first, as in the flat forward.
        kinds = sorted(set(windows), key=windows.count, reverse=True)
        spec.windows = kinds
        ropes: list[cpu.Rope] = []
        spec.layers = [
            self._layer(block, kinds.index(window), ropes, f"model.layers.{number}.")
            for number, (block, window) in enumerate(zip(inner.layers, windows, strict=True))
        ]
        spec.ropes = ropes
        self._whole(spec)
        return spec

    def _whole(self, spec: cpu.Spec) -> None:
        """Fill in what a family does around its layers."""
        model, inner = self._model, self._model.model
        if self._name == "granite":
            spec.embedding_scale = inner.embedding_multiplier
            spec.logit_scale = 1.0 / model.logits_scaling
        elif self._name == "gemma2":
            spec.embedding_scale = model.args.hidden_size**0.5
            spec.logit_cap = model.final_logit_softcapping
        elif self._name == "gemma3_text":
            spec.embedding_scale = float(vector(mx.array(model.args.hidden_size**0.5, mx.bfloat16)))

    def _layer(self, block: Any, kind: int, ropes: list[cpu.Rope], path: str) -> cpu.Layer:
        family, attention, mlp = self._family, block.self_attn, block.mlp
        layer: cpu.Layer = self._cpu.Layer()
        norms = {family.before_attention, family.after_attention, family.before_mlp, family.after_mlp} - {""}
        _only(block, {"self_attn", "mlp", *norms})
        for place in ("before_attention", "after_attention", "before_mlp", "after_mlp"):
            if name := getattr(family, place):
                setattr(layer, place, self._norm(block[name]))
        self._attention(layer, attention, ropes, f"{path}self_attn.")
        layer.kind = kind
        inputs = ("gate_up_proj",) if "gate_up_proj" in mlp else ("gate_proj", "up_proj")
        _only(mlp, {*inputs, "down_proj"})
        layer.gate_up = [self._weights.projection(mlp[name], f"{path}mlp.{name}") for name in inputs]
        layer.down = self._weights.projection(mlp.down_proj, f"{path}mlp.down_proj")
        layer.activation = family.activation
        if self._name == "granite":
            layer.residual = block.residual_multiplier
        return layer

    def _attention(self, layer: cpu.Layer, attention: Any, ropes: list[cpu.Rope], path: str) -> None:
        inputs = ("qkv_proj",) if "qkv_proj" in attention else ("q_proj", "k_proj", "v_proj")
        _only(attention, {*inputs, "o_proj", "q_norm", "k_norm", "rope"})
        layer.inputs = [self._weights.projection(attention[name], path + name) for name in inputs]
        layer.output = self._weights.projection(attention.o_proj, f"{path}o_proj")
        layer.heads, layer.key_heads = attention.n_heads, attention.n_kv_heads
        layer.size = attention.head_dim if "head_dim" in vars(attention) else self._head_size(attention)
        layer.scale = attention.scale
        layer.cap = getattr(attention, "attn_logit_softcapping", None) or 0.0
        if "q_norm" in attention:
            layer.query_norm, layer.key_norm = self._norm(attention.q_norm), self._norm(attention.k_norm)
            layer.norms_whole = self._family.norms_whole
        layer.rope = self._rope(attention.rope, ropes)

    def _head_size(self, attention: Any) -> int:
        columns = self._weights.matrix(attention.o_proj).columns
        return columns // int(attention.n_heads)

    def _norm(self, norm: Any) -> cpu.Norm:
        if type(norm).__name__ != "RMSNorm":
            raise NotNative(f"a norm is a {type(norm).__name__}")
        made: cpu.Norm = self._cpu.Norm(vector(norm.weight, self._family.norm_plus), norm.eps)
        return made

    def _rope(self, rope: Any, ropes: list[cpu.Rope]) -> int:
        """Return the number of a rope among ``ropes``, to which it is added if it is new; -1 for none."""
        kind = type(rope).__name__
        if kind == "NoPE":
            return -1
        if type(rope) is nn.RoPE:
            frequencies = _frequencies(rope.dims, rope.base)
            made = frequencies, float(rope.scale), 1.0, bool(rope.traditional)
        elif kind in ("Llama3RoPE", "YarnRoPE", "SuScaledRoPE", "ProportionalRoPE"):
            scale = float(getattr(rope, "mscale", 1.0) if kind == "YarnRoPE" else getattr(rope, "_scale", 1.0))
            made = np.array(1.0 / rope._freqs), 1.0, scale, bool(getattr(rope, "traditional", False))
        else:
            raise NotNative(f"positions are rotated by a {kind}")
        key = (made[0].tobytes(), *made[1:])
        if key not in self._ropes:
            self._ropes[key] = len(ropes)
            ropes.append(self._cpu.Rope(*made))
        return self._ropes[key]


def _frequencies(dims: int, base: float) -> Any:
    """Return the angle of each pair at position 1: [dims / 2], float32, by the operations of mlx."""
    half = dims // 2
    step = mx.array(math.log(base) / half, dtype=mx.float32)
    return np.array(mx.exp(mx.arange(0, -half, -1, dtype=mx.float32) * step))


def _window(cache: Cache) -> int:
    if not has_entries(cache) or (is_window(cache) and cache.keep):
        raise NotNative(f"a layer's cache is a {type(cache).__name__}")
    return cache.max_size if is_window(cache) else 0


def _check_window(inner: Any, block: Any, window: int) -> None:
    """Raise ``NotNative`` where the mask of a layer sees another number of tokens than its cache keeps."""
    slides = getattr(block, "use_sliding", getattr(block.self_attn, "is_sliding", window > 0))
    masked = getattr(inner, "sliding_window", None) or getattr(inner, "window_size", None)
    if slides != (window > 0) or (slides and (window < 2 or masked not in (None, window))):
        raise NotNative(f"a layer keeps {window} tokens and sees {masked if slides else 'all'}")


def _only(module: Any, known: set[str]) -> None:
    """Raise ``NotNative`` if a part of ``module`` is not among the ``known``."""
    for name, part in module.items():
        modules = part if isinstance(part, list) else [part]
        if any(isinstance(each, (nn.Module, mx.array)) for each in modules) and name not in known:
            raise NotNative(f"{type(module).__name__} has a part {name}")

"""ModernBERT: rotary positions, gated layers, and windows in two of three layers."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from .attention import Attention, Run, attend, in_heads
from .encoder import Sizes
from .layer_kinds import FULL, SLIDING, kinds_of, named_rope
from .tensors import Linear, Norm, Settings, Tensors, heads_of

_WORDS = "embeddings.tok_embeddings"


class _Layer(NamedTuple):
    attention: Attention
    before_attention: Norm | None
    qkv: Linear
    out: Linear
    before_mlp: Norm
    up: Linear  # [2 × inner, width]: what is activated, and its gate
    down: Linear


class _Head(NamedTuple):
    dense: Linear
    norm: Norm
    last: Linear


class ModernBert:
    """``Encoder`` for models of type modernbert."""

    def __init__(self, settings: Settings, tensors: Tensors, *, classifies: bool) -> None:
        """Raises ModelLoadFailed for weights that do not fit, ModelUnsupported for variants that are not computed."""
        prefix = tensors.prefix("", "model.", name=f"{_WORDS}.weight")
        vocabulary, width = tensors.rows(prefix + _WORDS), settings.count("hidden_size")
        inner = settings.count("intermediate_size")
        self._settings, self._eps = settings, settings.number("norm_eps", 1e-5)
        self._shifts = settings.flag("norm_bias")
        self._activation = settings.activation("hidden_activation")
        self._words = tensors.table(prefix + _WORDS, vocabulary, width)
        self._embedded = self._norm(tensors, f"{prefix}embeddings.norm", width)
        count = settings.count("num_hidden_layers")
        every = settings.count("global_attn_every_n_layers", 3)
        kinds = kinds_of(settings, [SLIDING if number % every else FULL for number in range(count)])
        self._heads = heads_of(settings, width)
        self._layers = [self._layer(tensors, f"{prefix}layers.{i}.", kinds[i], i, width, inner) for i in range(count)]
        self._last = self._norm(tensors, f"{prefix}final_norm", width)
        labels = tensors.rows("classifier") if classifies else 0
        self._head = self._classifier(tensors, width, labels) if classifies else None
        self.sizes = Sizes(
            layers=count,
            width=width,
            vocabulary=vocabulary,
            context=settings.count("max_position_embeddings", 8192),
            token_bytes=(8 * width + 5 * inner) * self._words.dtype.size,
            labels=labels,
            classified="mean" if settings.choice("classifier_pooling", ("cls", "mean"), "cls") == "mean" else "cls",
        )

    def begin(self, tokens: mx.array, positions: mx.array, types: mx.array) -> mx.array:
        return self._embedded(self._words(tokens))

    def layer(self, number: int, x: mx.array, runs: list[Run]) -> mx.array:
        own = self._layers[number]
        known = x if own.before_attention is None else own.before_attention(x)
        x = x + own.out(attend(*in_heads(own.qkv(known), self._heads), runs, own.attention))
        active, gate = mx.split(own.up(own.before_mlp(x)), 2, axis=-1)
        return x + own.down(self._activation(active) * gate)

    def end(self, x: mx.array) -> mx.array:
        return self._last(x)

    def classify(self, pooled: mx.array) -> mx.array:
        assert self._head is not None
        head = self._head
        activation = self._settings.activation("classifier_activation")
        return head.last(head.norm(activation(head.dense(pooled[None]))))[0]

    def _norm(self, tensors: Tensors, name: str, width: int) -> Norm:
        return tensors.norm(name, width, self._eps, bias=self._shifts)

    def _layer(self, tensors: Tensors, prefix: str, kind: str, number: int, width: int, inner: int) -> _Layer:
        attention_bias, mlp_bias = (self._settings.flag(key) for key in ("attention_bias", "mlp_bias"))
        return _Layer(
            attention=_attention(self._settings, kind),
            before_attention=self._norm(tensors, f"{prefix}attn_norm", width) if number else None,
            qkv=tensors.linear(f"{prefix}attn.Wqkv", 3 * width, width, bias=attention_bias),
            out=tensors.linear(f"{prefix}attn.Wo", width, width, bias=attention_bias),
            before_mlp=self._norm(tensors, f"{prefix}mlp_norm", width),
            up=tensors.linear(f"{prefix}mlp.Wi", 2 * inner, width, bias=mlp_bias),
            down=tensors.linear(f"{prefix}mlp.Wo", width, inner, bias=mlp_bias),
        )

    def _classifier(self, tensors: Tensors, width: int, labels: int) -> _Head:
        self._settings.activation("classifier_activation")
        dense = tensors.linear("head.dense", width, width, bias=self._settings.flag("classifier_bias"))
        return _Head(dense, self._norm(tensors, "head.norm", width), tensors.linear("classifier", labels, width))


def _attention(settings: Settings, kind: str) -> Attention:
    window = settings.count("local_attention", 128) // 2
    if not window:
        raise settings.broken("local_attention")
    return Attention(window if kind == SLIDING else 0, _rope(settings, kind))


def _rope(settings: Settings, kind: str) -> float:
    """The base of the rotary positions. Raises ModelUnsupported for those that are scaled."""
    if settings.get("rope_parameters") is not None:
        return named_rope(settings, kind, 160_000.0)
    base = settings.number("global_rope_theta", 160_000.0)
    if kind == FULL:
        return base
    return settings.number("local_rope_theta", base if settings.names("local_rope_theta") else 10_000.0)

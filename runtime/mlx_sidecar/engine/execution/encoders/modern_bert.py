"""ModernBERT: rotary positions, gated layers, and windows in two of three layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

from .attention import Attention, Run, attend
from .encoder import Sizes
from .tensors import Linear, Norm, Settings, Tensors

_WORDS = "embeddings.tok_embeddings.weight"
_FULL, _SLIDING = "full_attention", "sliding_attention"


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
        prefix = tensors.prefix("", "model.", name=_WORDS)
        shape = tensors.shape(prefix + _WORDS)
        if len(shape) != 2:
            raise ModelLoadFailed(settings.model, f"{prefix}{_WORDS} is {list(shape)}, not a matrix")
        vocabulary, width = shape
        inner = settings.count("intermediate_size")
        self._settings, self._eps = settings, settings.number("norm_eps", 1e-5)
        self._shifts = settings.flag("norm_bias")
        self._activation = settings.activation("hidden_activation")
        self._words = tensors.take(prefix + _WORDS, vocabulary, width)
        self._embedded = self._norm(tensors, f"{prefix}embeddings.norm", width)
        count = settings.count("num_hidden_layers")
        kinds = _kinds(settings, count)
        self._layers = [self._layer(tensors, f"{prefix}layers.{i}.", kinds[i], i, width, inner) for i in range(count)]
        self._last = self._norm(tensors, f"{prefix}final_norm", width)
        self._head = self._classifier(tensors, width) if classifies else None
        self.sizes = Sizes(
            layers=count,
            width=width,
            vocabulary=vocabulary,
            context=settings.count("max_position_embeddings", 8192),
            token_bytes=(8 * width + 5 * inner) * self._words.dtype.size,
            labels=0 if self._head is None else self._head.last.weight.shape[0],
            classified="mean" if settings.choice("classifier_pooling", ("cls", "mean"), "cls") == "mean" else "cls",
        )

    def begin(self, tokens: mx.array, positions: mx.array, types: mx.array) -> mx.array:
        return self._embedded(self._words[tokens])

    def layer(self, number: int, x: mx.array, runs: list[Run]) -> mx.array:
        own = self._layers[number]
        known = x if own.before_attention is None else own.before_attention(x)
        x = x + own.out(attend(own.qkv(known), runs, own.attention))
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
            attention=_attention(self._settings, kind, width),
            before_attention=self._norm(tensors, f"{prefix}attn_norm", width) if number else None,
            qkv=tensors.linear(f"{prefix}attn.Wqkv", 3 * width, width, bias=attention_bias),
            out=tensors.linear(f"{prefix}attn.Wo", width, width, bias=attention_bias),
            before_mlp=self._norm(tensors, f"{prefix}mlp_norm", width),
            up=tensors.linear(f"{prefix}mlp.Wi", 2 * inner, width, bias=mlp_bias),
            down=tensors.linear(f"{prefix}mlp.Wo", width, inner, bias=mlp_bias),
        )

    def _classifier(self, tensors: Tensors, width: int) -> _Head:
        self._settings.activation("classifier_activation")
        labels = tensors.shape("classifier.weight")[0]
        dense = tensors.linear("head.dense", width, width, bias=self._settings.flag("classifier_bias"))
        return _Head(dense, self._norm(tensors, "head.norm", width), tensors.linear("classifier", labels, width))


def _kinds(settings: Settings, count: int) -> list[str]:
    """How far each layer sees: by name, or all but every so manieth have a window."""
    named: Any = settings.get("layer_types")
    if named is None:
        every = settings.count("global_attn_every_n_layers", 3)
        return [_SLIDING if number % every else _FULL for number in range(count)]
    if not isinstance(named, list) or len(named) != count or set(named) - {_FULL, _SLIDING}:
        raise settings.broken("layer_types")
    return named


def _attention(settings: Settings, kind: str, width: int) -> Attention:
    heads = settings.count("num_attention_heads")
    if width % heads:
        raise settings.broken("num_attention_heads")
    window = settings.count("local_attention", 128) // 2
    if not window:
        raise settings.broken("local_attention")
    return Attention(heads, window if kind == _SLIDING else 0, _rope(settings, kind))


def _rope(settings: Settings, kind: str) -> float:
    """The base of the rotary positions. Raises ModelUnsupported for those that are scaled."""
    if (named := settings.get("rope_parameters")) is not None:
        own = named.get(kind, named) if isinstance(named, dict) else None
        if not isinstance(own, dict) or own.get("rope_type", "default") != "default":
            raise ModelUnsupported(settings.model, "its rope_parameters are not of type default")
        return Settings(settings.model, own).number("rope_theta", 160_000.0)
    base = settings.number("global_rope_theta", 160_000.0)
    if kind == _FULL:
        return base
    return settings.number("local_rope_theta", base if settings.names("local_rope_theta") else 10_000.0)

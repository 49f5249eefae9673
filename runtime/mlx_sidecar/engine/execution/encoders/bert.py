"""BERT, and RoBERTa with its kin, whose positions are counted from another number and whose classifier differs."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

from .attention import Attention, Run, attend
from .encoder import Sizes
from .tensors import Linear, Norm, Settings, Tensors

_WORDS = "embeddings.word_embeddings.weight"


class _Layer(NamedTuple):
    qkv: Linear
    out: Linear
    attended: Norm
    up: Linear
    down: Linear
    fed: Norm


class Bert:
    """``Encoder`` for models of types bert, roberta, xlm-roberta and camembert; ``roberta`` is False for bert alone."""

    def __init__(self, settings: Settings, tensors: Tensors, *, roberta: bool, classifies: bool) -> None:
        """Raises ModelLoadFailed for weights that do not fit, ModelUnsupported for variants that are not computed."""
        self._roberta = roberta
        prefix = tensors.prefix("", "bert.", "roberta.", name=_WORDS)
        vocabulary, width = _matrix(tensors, prefix + _WORDS)
        positions, _ = _matrix(tensors, f"{prefix}embeddings.position_embeddings.weight")
        self._types, _ = _matrix(tensors, f"{prefix}embeddings.token_type_embeddings.weight")
        _check_variant(settings)
        heads, inner = settings.count("num_attention_heads"), settings.count("intermediate_size")
        if width % heads:
            raise settings.broken("num_attention_heads")
        eps = settings.number("layer_norm_eps", 1e-12)
        self._attention = Attention(heads)
        self._activation = settings.activation("hidden_act")
        # RoBERTa counts positions from behind the padding token's number.
        self._first = settings.count("pad_token_id", 1) + 1 if roberta else 0
        if self._first >= positions:
            raise settings.broken("pad_token_id")
        named = f"{prefix}embeddings."
        self._words = tensors.take(prefix + _WORDS, vocabulary, width)
        self._positions = tensors.take(f"{named}position_embeddings.weight", positions, width)
        self._kinds = tensors.take(f"{named}token_type_embeddings.weight", self._types, width)
        self._embedded = tensors.norm(f"{named}LayerNorm", width, eps)
        count = settings.count("num_hidden_layers")
        self._layers = [_layer(tensors, f"{prefix}encoder.layer.{i}.", width, inner, eps) for i in range(count)]
        self._head: tuple[Linear, Linear] | None = None
        labels = 0
        if classifies:
            dense, last = (
                ("classifier.dense", "classifier.out_proj") if roberta else (f"{prefix}pooler.dense", "classifier")
            )
            labels, _ = _matrix(tensors, f"{last}.weight")
            self._head = tensors.linear(dense, width, width), tensors.linear(last, labels, width)
        token_bytes = (8 * width + 3 * inner) * self._words.dtype.size
        self.sizes = Sizes(count, width, vocabulary, positions - self._first, token_bytes, labels)

    def begin(self, tokens: mx.array, positions: mx.array, types: mx.array) -> mx.array:
        kinds = mx.minimum(types, self._types - 1)  # RoBERTa has one type only
        summed = self._words[tokens] + self._positions[positions + self._first] + self._kinds[kinds]
        return self._embedded(summed)

    def layer(self, number: int, x: mx.array, runs: list[Run]) -> mx.array:
        own = self._layers[number]
        x = own.attended(x + own.out(attend(own.qkv(x), runs, self._attention)))
        return own.fed(x + own.down(self._activation(own.up(x))))

    def end(self, x: mx.array) -> mx.array:
        return x

    def classify(self, pooled: mx.array) -> mx.array:
        assert self._head is not None
        dense, last = self._head
        return last(mx.tanh(dense(pooled[None])))[0]


def _check_variant(settings: Settings) -> None:
    settings.choice("position_embedding_type", ["absolute"], "absolute")
    for key in ("is_decoder", "add_cross_attention"):
        if settings.flag(key):
            raise ModelUnsupported(settings.model, f"{key} is set: it is no encoder")


def _layer(tensors: Tensors, prefix: str, width: int, inner: int, eps: float) -> _Layer:
    attention = f"{prefix}attention."
    return _Layer(
        qkv=tensors.stacked([f"{attention}self.{name}" for name in ("query", "key", "value")], width, width),
        out=tensors.linear(f"{attention}output.dense", width, width),
        attended=tensors.norm(f"{attention}output.LayerNorm", width, eps),
        up=tensors.linear(f"{prefix}intermediate.dense", inner, width),
        down=tensors.linear(f"{prefix}output.dense", width, inner),
        fed=tensors.norm(f"{prefix}output.LayerNorm", width, eps),
    )


def _matrix(tensors: Tensors, name: str) -> tuple[int, int]:
    shape = tensors.shape(name)
    if len(shape) != 2 or not all(shape):
        raise ModelLoadFailed(tensors.model, f"{name} is {list(shape)}, not a matrix")
    return shape[0], shape[1]

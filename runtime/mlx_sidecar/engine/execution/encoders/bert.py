"""BERT, and RoBERTa with its kin, whose positions are counted from another number and whose classifier differs."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelUnsupported

from .attention import Attention, Run, attend, in_heads
from .encoder import Sizes
from .tensors import Linear, Norm, Settings, Tensors, heads_of

_WORDS = "embeddings.word_embeddings"


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
        prefix = tensors.prefix("", "bert.", "roberta.", name=f"{_WORDS}.weight")
        vocabulary, width = tensors.rows(prefix + _WORDS), settings.count("hidden_size")
        positions = tensors.rows(f"{prefix}embeddings.position_embeddings")
        self._types = tensors.rows(f"{prefix}embeddings.token_type_embeddings")
        _check_variant(settings)
        inner = settings.count("intermediate_size")
        eps = settings.number("layer_norm_eps", 1e-12)
        self._heads = heads_of(settings, width)
        self._activation = settings.activation("hidden_act")
        # RoBERTa counts positions from behind the padding token's number.
        self._first = settings.count("pad_token_id", 1) + 1 if roberta else 0
        if self._first >= positions:
            raise settings.broken("pad_token_id")
        named = f"{prefix}embeddings."
        self._words = tensors.table(prefix + _WORDS, vocabulary, width)
        self._positions = tensors.table(f"{named}position_embeddings", positions, width)
        self._kinds = tensors.table(f"{named}token_type_embeddings", self._types, width)
        self._embedded = tensors.norm(f"{named}LayerNorm", width, eps)
        count = settings.count("num_hidden_layers")
        self._layers = [_layer(tensors, f"{prefix}encoder.layer.{i}.", width, inner, eps) for i in range(count)]
        self._head: tuple[Linear, Linear] | None = None
        labels = 0
        if classifies:
            dense, last = (
                ("classifier.dense", "classifier.out_proj") if roberta else (f"{prefix}pooler.dense", "classifier")
            )
            labels = tensors.rows(last)
            self._head = tensors.linear(dense, width, width), tensors.linear(last, labels, width)
        token_bytes = (8 * width + 3 * inner) * self._words.dtype.size
        self.sizes = Sizes(count, width, vocabulary, positions - self._first, token_bytes, labels)

    def begin(self, tokens: mx.array, positions: mx.array, types: mx.array) -> mx.array:
        kinds = mx.minimum(types, self._types - 1)  # RoBERTa has one type only
        summed = self._words(tokens) + self._positions(positions + self._first) + self._kinds(kinds)
        return self._embedded(summed)

    def layer(self, number: int, x: mx.array, runs: list[Run]) -> mx.array:
        own = self._layers[number]
        x = own.attended(x + own.out(attend(*in_heads(own.qkv(x), self._heads), runs, Attention())))
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
        qkv=tensors.stacked({f"{attention}self.{name}": width for name in ("query", "key", "value")}, width),
        out=tensors.linear(f"{attention}output.dense", width, width),
        attended=tensors.norm(f"{attention}output.LayerNorm", width, eps),
        up=tensors.linear(f"{prefix}intermediate.dense", inner, width),
        down=tensors.linear(f"{prefix}output.dense", width, inner),
        fed=tensors.norm(f"{prefix}output.LayerNorm", width, eps),
    )

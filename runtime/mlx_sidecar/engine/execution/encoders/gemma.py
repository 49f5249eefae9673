"""EmbeddingGemma: a Gemma 3 whose tokens see those behind them too, and so an encoder."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelUnsupported

from .attention import Attention, Run, attend
from .encoder import Sizes
from .layer_kinds import FULL, SLIDING, kinds_of, named_rope
from .tensors import Linear, RootNorm, Settings, Tensors

_WORDS = "embed_tokens"


class _Layer(NamedTuple):
    attention: Attention
    before_attention: RootNorm
    qkv: Linear
    queries: RootNorm
    keys: RootNorm
    out: Linear
    after_attention: RootNorm
    before_mlp: RootNorm
    gate_up: Linear  # [2 × inner, width]: what is activated, and what it is multiplied with
    down: Linear
    after_mlp: RootNorm


class Gemma:
    """``Encoder`` for models of type gemma3_text that use bidirectional attention."""

    def __init__(self, settings: Settings, tensors: Tensors, *, classifies: bool) -> None:
        """Raises ModelLoadFailed for weights that do not fit, ModelUnsupported for variants that are not computed."""
        _check_variant(settings)
        prefix = tensors.prefix("", "model.", name=f"{_WORDS}.weight")
        vocabulary, width = tensors.rows(prefix + _WORDS), settings.count("hidden_size")
        self._settings, self._eps = settings, settings.number("rms_norm_eps", 1e-6)
        self._width, self._inner = width, settings.count("intermediate_size")
        self._heads, self._shared = settings.count("num_attention_heads"), settings.count("num_key_value_heads")
        self._size = settings.count("head_dim", 256)
        if self._heads % self._shared:
            raise settings.broken("num_key_value_heads")
        if self._size % 2:
            raise settings.broken("head_dim")
        self._activation = settings.activation("hidden_activation", "gelu_pytorch_tanh")
        self._words = tensors.table(prefix + _WORDS, vocabulary, width)
        count = settings.count("num_hidden_layers")
        every = settings.count(_pattern(settings), 6)
        kinds = kinds_of(settings, [SLIDING if number % every else FULL for number in range(1, count + 1)])
        self._layers = [self._layer(tensors, f"{prefix}layers.{i}.", kinds[i]) for i in range(count)]
        self._last = tensors.root_norm(f"{prefix}norm", width, self._eps)
        labels = tensors.rows("score") if classifies else 0
        self._score = tensors.linear("score", labels, width, bias=False) if classifies else None
        attended = (2 * self._heads + 2 * self._shared) * self._size
        self.sizes = Sizes(
            layers=count,
            width=width,
            vocabulary=vocabulary,
            context=settings.count("max_position_embeddings", 131_072),
            token_bytes=(4 * width + attended + 5 * self._inner) * self._words.dtype.size,
            labels=labels,
            classified="last",
        )

    def begin(self, tokens: mx.array, positions: mx.array, types: mx.array) -> mx.array:
        words = self._words(tokens)
        return words * mx.array(self._width**0.5, words.dtype)

    def layer(self, number: int, x: mx.array, runs: list[Run]) -> mx.array:
        own = self._layers[number]
        queries, keys, values = self._in_heads(own.qkv(own.before_attention(x)))
        attended = attend(own.queries(queries), own.keys(keys), values, runs, own.attention)
        x = x + own.after_attention(own.out(attended))
        active, up = mx.split(own.gate_up(own.before_mlp(x)), 2, axis=-1)
        return x + own.after_mlp(own.down(self._activation(active) * up))

    def end(self, x: mx.array) -> mx.array:
        return self._last(x)

    def classify(self, pooled: mx.array) -> mx.array:
        assert self._score is not None
        return self._score(pooled[None])[0]

    def _in_heads(self, qkv: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Queries, keys and values [tokens, heads, size]."""
        apart, values = qkv.reshape(len(qkv), -1, self._size), self._heads + self._shared
        return apart[:, : self._heads], apart[:, self._heads : values], apart[:, values:]

    def _layer(self, tensors: Tensors, prefix: str, kind: str) -> _Layer:
        width, inner, size = self._width, self._inner, self._size
        attention, mlp = f"{prefix}self_attn.", f"{prefix}mlp."
        heads = {"q_proj": self._heads, "k_proj": self._shared, "v_proj": self._shared}
        bias = self._settings.flag("attention_bias")
        norms = [
            tensors.root_norm(f"{prefix}{name}_layernorm", width, self._eps)
            for name in ("input", "post_attention", "pre_feedforward", "post_feedforward")
        ]
        return _Layer(
            attention=_attention(self._settings, kind),
            before_attention=norms[0],
            qkv=tensors.stacked({f"{attention}{name}": n * size for name, n in heads.items()}, width, bias=bias),
            queries=tensors.root_norm(f"{attention}q_norm", size, self._eps),
            keys=tensors.root_norm(f"{attention}k_norm", size, self._eps),
            out=tensors.linear(f"{attention}o_proj", width, self._heads * size, bias=bias),
            after_attention=norms[1],
            before_mlp=norms[2],
            gate_up=tensors.stacked({f"{mlp}gate_proj": inner, f"{mlp}up_proj": inner}, width, bias=False),
            down=tensors.linear(f"{mlp}down_proj", width, inner, bias=False),
            after_mlp=norms[3],
        )


def _check_variant(settings: Settings) -> None:
    for key in ("attn_logit_softcapping", "rope_scaling"):
        if settings.get(key) is not None:
            raise ModelUnsupported(settings.model, f"its {key} is set")


def _pattern(settings: Settings) -> str:
    """The name of the key that says how many layers there are to one that sees all tokens."""
    return "sliding_window_pattern" if settings.names("sliding_window_pattern") else "_sliding_window_pattern"


def _attention(settings: Settings, kind: str) -> Attention:
    # As transformers reads it: of the width that config.json names, half lies in each direction.
    window = settings.count("sliding_window", 4096) // 2
    if not window:
        raise settings.broken("sliding_window")
    scale = settings.number("query_pre_attn_scalar", 256.0) ** -0.5
    return Attention(window if kind == SLIDING else 0, _rope(settings, kind), scale)


def _rope(settings: Settings, kind: str) -> float:
    """The base of the rotary positions."""
    base = {FULL: ("rope_theta", 1_000_000.0), SLIDING: ("rope_local_base_freq", 10_000.0)}[kind]
    if settings.get("rope_parameters") is not None:
        return named_rope(settings, kind, base[1])
    return settings.number(*base)

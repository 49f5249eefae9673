"""Tiny encoders with random weights, written as sentence-transformers writes them, and what they compute in float64.

The reference is written from the papers and shares no code with the engine: one text at a time, with numpy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import processors

from tests.support import gemma_models
from tests.support.text_models import word_piece

WIDTH, INNER, HEADS, LAYERS, VOCABULARY, POSITIONS = 32, 64, 4, 3, 300, 96
KINDS = ("bert", "xlm-roberta", "modernbert", "gemma3_text")
POOLING = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}

Weights = dict[str, NDArray[np.float32]]
Vector = Any  # NDArray[np.float64], whose operators give Any

_COMMON: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "vocab_size": VOCABULARY,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {**_COMMON, "model_type": "bert", "max_position_embeddings": POSITIONS, "layer_norm_eps": 1e-12},
    "xlm-roberta": {
        **_COMMON,
        "model_type": "xlm-roberta",
        "max_position_embeddings": POSITIONS + 2,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
    },
    # Layers 1 and 2 see four tokens in each direction.
    "modernbert": {
        **_COMMON,
        "model_type": "modernbert",
        "max_position_embeddings": POSITIONS,
        "norm_eps": 1e-5,
        "local_attention": 8,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "classifier_pooling": "mean",
    },
    "gemma3_text": gemma_models.CONFIG,
}


def weights_of(kind: str, seed: int = 0, labels: int = 0) -> Weights:
    """Random weights of ``kind`` under the names of its checkpoints; with a classifier where there are ``labels``."""
    source = np.random.default_rng(seed)

    def drawn(*shape: int) -> NDArray[np.float32]:
        return (0.4 * source.standard_normal(shape) / math.sqrt(shape[-1] / 8)).astype(np.float32)

    def linear(name: str, out: int, into: int, bias: bool = True) -> Weights:
        return {f"{name}.weight": drawn(out, into)} | ({f"{name}.bias": drawn(out)} if bias else {})

    def norm(name: str, bias: bool = True) -> Weights:
        return {f"{name}.weight": 1 + drawn(WIDTH)} | ({f"{name}.bias": drawn(WIDTH)} if bias else {})

    if kind == "gemma3_text":
        return gemma_models.gemma_weights(drawn, labels)
    if kind == "modernbert":
        found = {"model.embeddings.tok_embeddings.weight": drawn(VOCABULARY, WIDTH)}
        found |= norm("model.embeddings.norm", False) | norm("model.final_norm", False)
        for i in range(LAYERS):
            at = f"model.layers.{i}."
            found |= norm(f"{at}attn_norm", False) if i else {}
            found |= linear(f"{at}attn.Wqkv", 3 * WIDTH, WIDTH, False) | linear(f"{at}attn.Wo", WIDTH, WIDTH, False)
            found |= norm(f"{at}mlp_norm", False)
            found |= linear(f"{at}mlp.Wi", 2 * INNER, WIDTH, False) | linear(f"{at}mlp.Wo", WIDTH, INNER, False)
        if labels:
            found |= linear("head.dense", WIDTH, WIDTH, False) | norm("head.norm", False)
            found |= linear("classifier", labels, WIDTH)
        return found
    prefix = "" if not labels else "bert." if kind == "bert" else "roberta."
    at = f"{prefix}embeddings."
    found = {
        f"{at}word_embeddings.weight": drawn(VOCABULARY, WIDTH),
        f"{at}position_embeddings.weight": drawn(CONFIGS[kind]["max_position_embeddings"], WIDTH),
        f"{at}token_type_embeddings.weight": drawn(2 if kind == "bert" else 1, WIDTH),
        **norm(f"{at}LayerNorm"),
    }
    for i in range(LAYERS):
        at = f"{prefix}encoder.layer.{i}."
        for part in ("query", "key", "value"):
            found |= linear(f"{at}attention.self.{part}", WIDTH, WIDTH)
        found |= linear(f"{at}attention.output.dense", WIDTH, WIDTH) | norm(f"{at}attention.output.LayerNorm")
        found |= linear(f"{at}intermediate.dense", INNER, WIDTH) | linear(f"{at}output.dense", WIDTH, INNER)
        found |= norm(f"{at}output.LayerNorm")
    if labels and kind == "bert":
        found |= linear("bert.pooler.dense", WIDTH, WIDTH) | linear("classifier", labels, WIDTH)
    elif labels:
        found |= linear("classifier.dense", WIDTH, WIDTH) | linear("classifier.out_proj", labels, WIDTH)
    return found


def write_encoder(
    directory: Path, kind: str, *, seed: int = 0, labels: int = 0, pooling: str | None = "mean", normalize: bool = True
) -> Path:
    """Make a checkpoint of ``kind`` in ``directory``: a cross-encoder with ``labels``, else a sentence-transformer.

    ``pooling``: None leaves out the files that name one.
    """
    import mlx.core as mx

    directory.mkdir(parents=True, exist_ok=True)
    weights = weights_of(kind, seed, labels)
    arrays = {name: mx.array(array) for name, array in weights.items()}
    mx.save_safetensors(str(directory / "model.safetensors"), arrays, metadata={"format": "pt"})
    architecture = "ForSequenceClassification" if labels else "Model"
    _write(directory / "config.json", {**CONFIGS[kind], "architectures": [architecture]})
    tokenizer, settings = word_piece()
    around = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    both = f"[CLS] $A [SEP] $B:{int(kind == 'bert')} [SEP]:{int(kind == 'bert')}"
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", both, around)
    tokenizer.save(str(directory / "tokenizer.json"))
    _write(directory / "tokenizer_config.json", settings)
    if not labels and pooling is not None:
        write_modules(directory, POOLING[pooling], normalize=normalize)
    return directory


def write_modules(directory: Path, flag: str, *, normalize: bool) -> None:
    """Write the list of modules, and the config of one that pools as ``flag`` says."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    _write(directory / "modules.json", modules)
    (directory / "1_Pooling").mkdir(exist_ok=True)
    _write(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, flag: True})


def write_dense(
    folder: Path,
    inputs: int,
    outputs: int,
    *,
    seed: int = 0,
    bias: bool = True,
    activation: str = "torch.nn.modules.activation.Tanh",
) -> tuple[Vector, Vector]:
    """Write a Dense module of random weights; return its weight [outputs, inputs] and its bias, zeros without one."""
    import mlx.core as mx

    source = np.random.default_rng(seed)
    weight = source.standard_normal((outputs, inputs)).astype(np.float32)
    shift = (source.standard_normal(outputs) * bias).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"linear.weight": mx.array(weight)} | ({"linear.bias": mx.array(shift)} if bias else {})
    mx.save_safetensors(str(folder / "model.safetensors"), arrays)
    config = {"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": activation}
    _write(folder / "config.json", config)
    return weight.astype(np.float64), shift.astype(np.float64)


def write_dense_modules(directory: Path, width: int) -> list[tuple[Vector, Vector, Any]]:
    """Put two Dense modules between the pooling and the length; return weight, bias and activation of each."""
    first = write_dense(directory / "2_Dense", width, 48)
    second = write_dense(
        directory / "3_Dense", 48, 20, seed=1, bias=False, activation="torch.nn.modules.linear.Identity"
    )
    modules = json.loads((directory / "modules.json").read_text())
    dense = [{"path": path, "type": "sentence_transformers.models.Dense"} for path in ("2_Dense", "3_Dense")]
    _write(directory / "modules.json", [*modules[:2], *dense, *modules[2:]])
    return [(*first, np.tanh), (*second, np.asarray)]


def _write(file: Path, value: object) -> None:
    file.write_text(json.dumps(value))


# The reference.


def hidden_states(weights: Weights, config: dict[str, Any], tokens: list[int], second: int = 0) -> Vector:
    """The hidden states [tokens, width] behind the last layer; tokens from ``second`` on are of type 1."""
    wide = {name.removeprefix("bert.").removeprefix("roberta."): a.astype(np.float64) for name, a in weights.items()}
    if config["model_type"] == "gemma3_text":
        return gemma_models.gemma_hidden(wide, config, tokens)
    if config["model_type"] == "modernbert":
        return _modern(wide, config, tokens)
    first = config.get("pad_token_id", 0) + 1 if config["model_type"] != "bert" else 0
    types = [int(bool(second) and at >= second) for at in range(len(tokens))]
    kinds = wide["embeddings.token_type_embeddings.weight"]
    x = wide["embeddings.word_embeddings.weight"][tokens]
    x = x + wide["embeddings.position_embeddings.weight"][first : first + len(tokens)]
    x = x + kinds[[min(each, len(kinds) - 1) for each in types]]
    eps = config["layer_norm_eps"]
    x = _norm(x, wide, "embeddings.LayerNorm", eps)
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}."
        parts = [_linear(x, wide, f"{at}attention.self.{part}") for part in ("query", "key", "value")]
        query, key, value = parts
        attended = _attention(query, key, value, config["num_attention_heads"])
        x = _norm(
            x + _linear(attended, wide, f"{at}attention.output.dense"), wide, f"{at}attention.output.LayerNorm", eps
        )
        fed = _linear(_gelu(_linear(x, wide, f"{at}intermediate.dense")), wide, f"{at}output.dense")
        x = _norm(x + fed, wide, f"{at}output.LayerNorm", eps)
    return x


def _modern(wide: dict[str, Vector], config: dict[str, Any], tokens: list[int]) -> Vector:
    eps, heads, size = config["norm_eps"], config["num_attention_heads"], config["hidden_size"]
    x = _norm(wide["model.embeddings.tok_embeddings.weight"][tokens], wide, "model.embeddings.norm", eps)
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}."
        sees_all = i % config["global_attn_every_n_layers"] == 0
        base = config["global_rope_theta" if sees_all else "local_rope_theta"]
        known = _norm(x, wide, f"{at}attn_norm", eps) if i else x
        query, key, value = np.split(_linear(known, wide, f"{at}attn.Wqkv"), 3, axis=-1)
        window = None if sees_all else config["local_attention"] // 2
        turned, known_as = _turned(query, heads, base), _turned(key, heads, base)
        x = x + _linear(_attention(turned, known_as, value, heads, window), wide, f"{at}attn.Wo")
        active, gate = np.split(_linear(_norm(x, wide, f"{at}mlp_norm", eps), wide, f"{at}mlp.Wi"), 2, axis=-1)
        x = x + _linear(_gelu(active) * gate, wide, f"{at}mlp.Wo")
    assert x.shape[-1] == size
    return _norm(x, wide, "model.final_norm", eps)


def embedded(
    hidden: Vector,
    pooling: str,
    dimensions: int | None = None,
    dense: Sequence[tuple[Vector, Vector, Any]] = (),
) -> Vector:
    """The vector of length 1 that a text with these hidden states has behind the modules ``dense``."""
    vector = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1], "max": hidden.max(0)}[pooling]
    for weight, bias, activation in dense:
        vector = activation(weight @ vector + bias)
    return vector[:dimensions] / np.linalg.norm(vector[:dimensions])


def classified(weights: Weights, config: dict[str, Any], hidden: Vector) -> float:
    """The probability that the classifier of one label gives."""
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    if config["model_type"] == "modernbert":
        inner = _norm(_gelu(_linear(hidden.mean(0), wide, "head.dense")), wide, "head.norm", config["norm_eps"])
        logit = _linear(inner, wide, "classifier")
    elif config["model_type"] == "gemma3_text":
        logit = _linear(hidden[-1], wide, "score")
    elif config["model_type"] == "bert":
        logit = _linear(np.tanh(_linear(hidden[0], wide, "bert.pooler.dense")), wide, "classifier")
    else:
        logit = _linear(np.tanh(_linear(hidden[0], wide, "classifier.dense")), wide, "classifier.out_proj")
    return float(1 / (1 + np.exp(-logit[0])))


def _linear(x: Vector, wide: dict[str, Vector], name: str) -> Vector:
    product = x @ wide[f"{name}.weight"].T
    return product + wide[f"{name}.bias"] if f"{name}.bias" in wide else product


def _norm(x: Vector, wide: dict[str, Vector], name: str, eps: float) -> Vector:
    middle = x - x.mean(-1, keepdims=True)
    scaled = middle / np.sqrt((middle**2).mean(-1, keepdims=True) + eps) * wide[f"{name}.weight"]
    return scaled + wide.get(f"{name}.bias", np.zeros(1))


def _gelu(x: Vector) -> Vector:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _turned(x: Vector, heads: int, base: float) -> Vector:
    """Rotary positions: the first half of each head is turned with its second half."""
    parts = x.reshape(len(x), heads, -1)
    half = parts.shape[-1] // 2
    angles = np.arange(len(x))[:, None, None] * base ** (-np.arange(half) / half)
    low, high = parts[..., :half], parts[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1).reshape(x.shape)


def _attention(query: Vector, key: Vector, value: Vector, heads: int, window: int | None = None) -> Vector:
    queries, keys, values = (each.reshape(len(each), heads, -1).swapaxes(0, 1) for each in (query, key, value))
    scores = queries @ keys.swapaxes(1, 2) / math.sqrt(queries.shape[-1])
    if window is not None:
        at = np.arange(len(query))
        scores = np.where(np.abs(at[:, None] - at[None]) <= window, scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    out = shares / shares.sum(-1, keepdims=True) @ values
    return out.swapaxes(0, 1).reshape(query.shape)

"""EmbeddingGemma by the configs of older and newer releases of transformers; variants are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_sidecar.checkpoint.model_directory import inspect
from mlx_sidecar.engine.execution.encoders.attention import runs_of
from mlx_sidecar.engine.execution.encoders.encoder import Encoder
from mlx_sidecar.engine.execution.encoders.loading import encoder_of, load_encoder_steps
from mlx_sidecar.engine.execution.trial import drained
from mlx_sidecar.link.control_messages import Load
from mlx_sidecar_protocol.errors import RpcError
from tests.support.encoder_models import CONFIGS, write_encoder

CONFIG = CONFIGS["gemma3_text"]
TOKENS = list(range(7, 47))


def loaded(path: Path, config: dict[str, Any]) -> Encoder:
    (path / "config.json").write_text(json.dumps(config))
    load, directory = Load(1, "m", str(path)), inspect("m", str(path))
    return drained(load_encoder_steps(load, directory, "float32", native=True)).encoder  # type: ignore[arg-type]


def hidden(encoder: Encoder) -> list[float]:
    """The hidden states of ``TOKENS``."""
    at = mx.arange(len(TOKENS))
    x = encoder.begin(mx.array(TOKENS), at, mx.zeros_like(at))
    for number in range(encoder.sizes.layers):
        x = encoder.layer(number, x, runs_of([len(TOKENS)]))
    return encoder.end(x).flatten().tolist()  # type: ignore[return-value]


def without(*keys: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in CONFIG.items() if key not in keys} | more


NEWER = without(
    "rope_theta",
    "rope_local_base_freq",
    "_sliding_window_pattern",
    layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    rope_parameters={
        "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
)


@pytest.mark.parametrize(
    "config",
    [
        NEWER,
        without("rope_theta", "rope_local_base_freq", "hidden_activation", "rms_norm_eps"),
        without("_sliding_window_pattern", sliding_window_pattern=3),
        without(sliding_window=8),  # half of it, rounded down, is in each direction
    ],
    ids=["newer", "defaults", "pattern", "even"],
)
def test_what_configs_say_in_other_words_is_the_same_encoder(tmp_path: Path, config: dict[str, Any]) -> None:
    write_encoder(tmp_path, "gemma3_text")
    assert hidden(loaded(tmp_path, config)) == hidden(loaded(tmp_path, CONFIG))


@pytest.mark.parametrize(
    "config",
    [without(sliding_window=11), without(query_pre_attn_scalar=16), without(_sliding_window_pattern=2)],
    ids=["window", "scale", "pattern"],
)
def test_what_configs_say_otherwise_is_another_encoder(tmp_path: Path, config: dict[str, Any]) -> None:
    write_encoder(tmp_path, "gemma3_text")
    assert hidden(loaded(tmp_path, config)) != hidden(loaded(tmp_path, CONFIG))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_logit_softcapping", 50.0),
        ("rope_scaling", {"rope_type": "linear", "factor": 8.0}),
        ("rope_parameters", {"full_attention": {"rope_type": "linear"}, "sliding_attention": {"rope_type": "default"}}),
        ("hidden_activation", "swish2"),
        ("layer_types", ["full_attention"]),
        ("num_key_value_heads", 3),
        ("head_dim", 15),
        ("head_dim", 8),
        ("sliding_window", 1),
        ("attention_bias", True),
    ],
    ids=str,
)
def test_variants_that_are_not_computed_and_misfits_are_refused_by_name(tmp_path: Path, key: str, value: Any) -> None:
    write_encoder(tmp_path, "gemma3_text")
    with pytest.raises(RpcError) as refused:
        loaded(tmp_path, {**CONFIG, key: value})
    assert refused.value.kind in ("model_load_failed", "model_unsupported")
    named = {"attention_bias": "q_proj.bias"}.get(key, key) if value != 8 else "q_proj.weight"
    assert named in refused.value.message


@pytest.mark.parametrize("said", [False, None, "vision"])
def test_without_bidirectional_attention_it_is_a_decoder(said: object) -> None:
    assert encoder_of({**CONFIG, "use_bidirectional_attention": said}) is None

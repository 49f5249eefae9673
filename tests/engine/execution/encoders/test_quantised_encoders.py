"""A quantised encoder gives the vectors of the weights that its packed ones stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.model_directory import inspect
from mlx_sidecar.engine.core.batch import Role, Work
from mlx_sidecar.engine.execution.encoders.batch import EncoderBatch
from mlx_sidecar.engine.execution.encoders.loading import LoadedEncoder, load_encoder_steps
from mlx_sidecar.engine.execution.packed import packed_in
from mlx_sidecar.engine.execution.trial import drained
from mlx_sidecar.link.control_messages import Dtype, Load
from mlx_sidecar.link.messages import Embed, Score
from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported
from tests.support.encoder_models import (
    CONFIGS,
    KINDS,
    VOCABULARY,
    WIDTH,
    classified,
    embedded,
    hidden_states,
    weights_of,
    write_encoder,
)
from tests.support.quantised_models import quantise
from tests.support.sequences import sequence_of

FOUR_BITS = {"group_size": 32, "bits": 4, "mode": "affine"}
EIGHT_BITS = {"group_size": 32, "bits": 8, "mode": "affine"}
OF_BYTES = [{"group_size": 32, "bits": bits, "mode": f"mxfp{bits}"} for bits in (4, 8)]
OF_BYTES += [{"group_size": 16, "bits": 4, "mode": "nvfp4"}]
LENGTHS = (1, 17, 40, 40)


def loaded(path: Path, dtype: Dtype | None = "float32") -> LoadedEncoder:
    directory = inspect("m", str(path))
    return drained(load_encoder_steps(Load(1, "m", str(path)), directory, dtype, native=True))  # type: ignore[arg-type]


def texts() -> list[list[int]]:
    source = np.random.default_rng(3)
    return [source.integers(0, VOCABULARY, length).tolist() for length in LENGTHS]


def vectors(encoder: LoadedEncoder) -> list[np.ndarray]:
    """The vectors of ``texts()``, pooled by their mean."""
    return run(encoder, [Embed("mean", WIDTH, normalize=True)] * len(LENGTHS))


def run(encoder: LoadedEncoder, goals: list[Any]) -> list[np.ndarray]:
    batch = EncoderBatch(encoder.encoder, 1 << 30)
    sequences = [sequence_of(i, text, 1, goal=goal) for i, (text, goal) in enumerate(zip(texts(), goals, strict=False))]
    for sequence in sequences:
        batch.open(sequence)
    events = batch.step([Work(sequence, sequence.pending, Role.PREFILL) for sequence in sequences], 0.0)
    found = {event.sequence.id: event.vector for event in events}
    return [np.frombuffer(found[sequence.id], "<f4") for sequence in sequences]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", None])
def test_vectors_are_those_of_the_weights_unpacked(tmp_path: Path, kind: str, dtype: Dtype | None) -> None:
    weights = quantise(write_encoder(tmp_path, kind), FOUR_BITS)
    encoder = loaded(tmp_path, dtype)
    for text, vector in zip(texts(), vectors(encoder), strict=True):
        assert vector == pytest.approx(embedded(hidden_states(weights, CONFIGS[kind], text), "mean"), abs=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_with_eight_bits_vectors_are_nearly_those_of_the_checkpoint_before(tmp_path: Path, kind: str) -> None:
    quantise(write_encoder(tmp_path, kind), EIGHT_BITS)
    for text, vector in zip(texts(), vectors(loaded(tmp_path)), strict=True):
        assert vector @ embedded(hidden_states(weights_of(kind), CONFIGS[kind], text), "mean") > 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_is_read_packed_too(tmp_path: Path, kind: str) -> None:
    weights = quantise(write_encoder(tmp_path, kind, labels=1), FOUR_BITS)
    second = 9 if kind == "bert" else 0  # the others have one type of token
    logits = run(loaded(tmp_path, None), [Score(second=9 if len(text) > 9 else 0) for text in texts()])
    for text, logit in zip(texts(), logits, strict=True):
        hidden = hidden_states(weights, CONFIGS[kind], text, second if len(text) > 9 else 0)
        assert 1 / (1 + np.exp(-logit[0])) == pytest.approx(classified(weights, CONFIGS[kind], hidden), abs=2e-6)


@pytest.mark.parametrize("kind", ["bert", "gemma3_text"])
@pytest.mark.parametrize("ends", [("value", "v_proj"), ("key", "k_proj")])
def test_layers_that_are_packed_in_other_ways_are_computed_with_the_rest(
    tmp_path: Path, kind: str, ends: tuple[str, str]
) -> None:
    weights = quantise(write_encoder(tmp_path, kind), FOUR_BITS, dict.fromkeys(ends, EIGHT_BITS))
    for text, vector in zip(texts(), vectors(loaded(tmp_path, None)), strict=True):
        assert vector == pytest.approx(embedded(hidden_states(weights, CONFIGS[kind], text), "mean"), abs=2e-6)


@pytest.mark.parametrize("way", OF_BYTES, ids=lambda way: str(way["mode"]))
def test_scales_may_be_bytes(tmp_path: Path, way: dict[str, Any]) -> None:
    weights = quantise(write_encoder(tmp_path, "gemma3_text"), way)
    for text, vector in zip(texts(), vectors(loaded(tmp_path)), strict=True):
        assert vector == pytest.approx(embedded(hidden_states(weights, CONFIGS["gemma3_text"], text), "mean"), abs=2e-6)
    for text, vector in zip(texts(), vectors(loaded(tmp_path, None)), strict=True):  # its words come in bfloat16
        assert vector @ embedded(hidden_states(weights, CONFIGS["gemma3_text"], text), "mean") > 0.999


def test_packed_weights_stay_packed_where_no_type_is_asked_for_and_are_counted_unpacked(tmp_path: Path) -> None:
    write_encoder(tmp_path, "bert")
    plain = loaded(tmp_path)
    quantise(tmp_path, FOUR_BITS)
    unpacked, packed = loaded(tmp_path), loaded(tmp_path, None)
    assert plain.parameters == unpacked.parameters == packed.parameters
    assert plain.memory_bytes == unpacked.memory_bytes > 3 * packed.memory_bytes
    assert packed.dtype == unpacked.dtype == "float32"


def test_weights_that_another_program_has_packed_are_refused_by_the_name_of_the_method(tmp_path: Path) -> None:
    write_encoder(tmp_path, "bert")
    packing = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (tmp_path / "config.json").write_text(json.dumps({**CONFIGS["bert"], "quantization_config": packing}))
    with pytest.raises(ModelUnsupported, match="gptq"):
        loaded(tmp_path)


def test_packed_words_without_a_word_of_it_in_the_config_are_refused(tmp_path: Path) -> None:
    quantise(write_encoder(tmp_path, "bert"), FOUR_BITS)
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["bert"]))
    with pytest.raises(ModelLoadFailed, match="uint32"):
        loaded(tmp_path)


shapes = st.lists(st.sampled_from([0, 1, 2, 4, 8, 16, 32, 64]), max_size=3).map(tuple)
kinds = st.sampled_from([mx.uint32, mx.uint8, mx.float32, mx.float16, mx.int32])


@given(
    arrays=st.dictionaries(
        st.sampled_from(["l.weight", "l.scales", "l.biases", "l.global_scale"]), st.tuples(shapes, kinds)
    ),
    out=st.sampled_from([1, 2, 8]),
    into=st.sampled_from([16, 32, 64, 96]),
)
@settings(max_examples=300)
def test_arrays_are_the_matrix_of_the_sizes_asked_for_or_refused(
    arrays: dict[str, tuple[tuple[int, ...], mx.Dtype]], out: int, into: int
) -> None:
    made = {name: mx.zeros(shape, dtype) for name, (shape, dtype) in arrays.items()}
    try:
        packed = packed_in("m", made, "l", out, into)
    except ModelLoadFailed:
        return
    if packed is None:
        assert "l.scales" not in made
        return
    whole, x = packed.unpacked(), mx.ones((3, into), packed.dtype)
    mx.eval(whole, packed.times(x), packed.rows(mx.array([0])))
    assert (whole.shape, whole.dtype) == ((out, into), mx.float32)

"""A batch of texts gives each the vector that it has alone, however they share steps, and that of the reference."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.model_directory import inspect
from mlx_sidecar.engine.core.batch import Event, Role, Work
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.execution.encoders.batch import EncoderBatch
from mlx_sidecar.engine.execution.encoders.loading import LoadedEncoder, load_encoder_steps
from mlx_sidecar.engine.execution.trial import drained
from mlx_sidecar.link.control_messages import Load, Pooling
from mlx_sidecar.link.messages import Embed, Score
from mlx_sidecar_protocol.errors import RpcError
from tests.support.encoder_models import (
    CONFIGS,
    KINDS,
    POSITIONS,
    VOCABULARY,
    WIDTH,
    classified,
    embedded,
    hidden_states,
    weights_of,
    write_encoder,
)
from tests.support.sequences import sequence_of

texts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=POSITIONS)


@cache
def loaded(kind: str, labels: int = 0) -> LoadedEncoder:
    """The encoder of a checkpoint, which is gone once its weights are in memory."""
    with TemporaryDirectory() as folder:
        path = write_encoder(Path(folder), kind, labels=labels)
        load = Load(1, kind, str(path))
        return drained(load_encoder_steps(load, inspect(kind, str(path)), "float32", native=True))  # type: ignore[arg-type]


def wanted(number: int, tokens: list[int], pooling: Pooling = "mean", dimensions: int = WIDTH) -> Sequence:
    return sequence_of(number, tokens, 1, goal=Embed(pooling, dimensions, normalize=True))


def vectors(batch: EncoderBatch, sequences: list[Sequence], pieces: list[int] | None = None) -> list[np.ndarray]:
    """The vectors of ``sequences``, which are taken in together by ``pieces`` of so many tokens, or at once."""
    for sequence in sequences:
        batch.open(sequence)
    found: dict[int, bytes] = {}
    turn = 0
    while len(found) < len(sequences):
        open_ = [sequence for sequence in sequences if sequence.id not in found]
        most = POSITIONS if pieces is None else pieces[turn % len(pieces)]
        work = [Work(sequence, min(sequence.pending, most), Role.PREFILL) for sequence in open_]
        for event in batch.step(work, 0.0):
            assert event.reason == "length", event
            found[event.sequence.id] = event.vector
            batch.close(event.sequence, keep=True)
        turn += 1
    return [np.frombuffer(found[sequence.id], "<f4") for sequence in sequences]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max"])
def test_a_vector_is_that_of_double_precision(kind: str, pooling: Pooling) -> None:
    source = np.random.default_rng(3)
    lengths = [1, 2, 17, 40, 40, POSITIONS]
    given_texts = [source.integers(0, VOCABULARY, length).tolist() for length in lengths]
    batch = EncoderBatch(loaded(kind).encoder, 1 << 30)
    made = vectors(batch, [wanted(number, tokens, pooling) for number, tokens in enumerate(given_texts)])
    for tokens, vector in zip(given_texts, made, strict=True):
        expected = embedded(hidden_states(weights_of(kind), CONFIGS[kind], tokens), pooling)
        assert vector == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@given(batch=st.lists(texts, min_size=1, max_size=6), pieces=st.lists(st.integers(4, 60), min_size=1, max_size=4))
@settings(max_examples=10)
def test_the_vector_of_a_text_is_the_one_it_has_alone(kind: str, batch: list[list[int]], pieces: list[int]) -> None:
    encoder = loaded(kind).encoder
    together = vectors(EncoderBatch(encoder, 1 << 30), [wanted(i, tokens) for i, tokens in enumerate(batch)], pieces)
    for number, tokens in enumerate(batch):
        (alone,) = vectors(EncoderBatch(encoder, 1 << 30), [wanted(number, tokens)])
        assert np.abs(together[number] - alone).max() <= 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_dimensions_are_the_first_numbers_with_length_one(kind: str) -> None:
    tokens = list(range(5, 25))
    batch = EncoderBatch(loaded(kind).encoder, 1 << 30)
    (cut,) = vectors(batch, [wanted(1, tokens, "mean", 8)])
    hidden = hidden_states(weights_of(kind), CONFIGS[kind], tokens)
    assert cut == pytest.approx(embedded(hidden, "mean", 8), abs=2e-6)
    assert np.linalg.norm(cut) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_is_that_of_double_precision(kind: str) -> None:
    found = loaded(kind, labels=1)
    batch = EncoderBatch(found.encoder, 1 << 30)
    tokens = list(range(7, 40))
    sequence = sequence_of(1, tokens, 1, goal=Score(second=12))
    (logit,) = vectors(batch, [sequence])
    weights = weights_of(kind, labels=1)
    second = 12 if kind == "bert" else 0  # the others have one type of token
    expected = classified(weights, CONFIGS[kind], hidden_states(weights, CONFIGS[kind], tokens, second))
    assert 1 / (1 + np.exp(-logit[0])) == pytest.approx(expected, abs=2e-6)


def test_a_step_takes_a_text_through_as_many_layers_as_its_piece_is_of_the_text() -> None:
    encoder, passed = loaded("bert").encoder, list[tuple[int, int]]()

    class Counting:
        sizes = encoder.sizes
        begin, end, classify = encoder.begin, encoder.end, encoder.classify

        def layer(self, number: int, x: object, runs: object) -> object:
            passed.append((number, len(x)))  # type: ignore[arg-type]
            return encoder.layer(number, x, runs)  # type: ignore[arg-type]

    batch = EncoderBatch(Counting(), 1 << 30)  # type: ignore[arg-type]
    long, short = wanted(1, [5] * 30), wanted(2, [6] * 4)
    for sequence in (long, short):
        batch.open(sequence)
    assert batch.step([Work(long, 10, Role.PREFILL)], 0.0) == []
    assert passed == [(0, 30)]
    (event,) = batch.step([Work(long, 10, Role.PREFILL), Work(short, 4, Role.PREFILL)], 0.0)
    assert event.sequence is short
    # Where both are behind the same layer they share its products.
    assert sorted(passed[1:]) == [(0, 4), (1, 34), (2, 4)]
    assert [event.sequence for event in batch.step([Work(long, 10, Role.PREFILL)], 0.0)] == [long]


def test_a_text_whose_vector_is_not_finite_ends_with_an_error_that_says_so() -> None:
    encoder = loaded("bert").encoder

    class Infinite:
        sizes = encoder.sizes
        begin, layer, classify = encoder.begin, encoder.layer, encoder.classify

        def end(self, x: object) -> object:
            return x / 0.0  # type: ignore[operator]

    batch = EncoderBatch(Infinite(), 1 << 30)  # type: ignore[arg-type]
    sequence = wanted(1, [5, 6])
    batch.open(sequence)
    (event,) = batch.step([Work(sequence, 2, Role.PREFILL)], 0.0)
    assert isinstance(event, Event)
    assert event.reason == "error"
    assert event.fault is not None
    assert event.fault.kind == "non_finite_embedding"


BROKEN = {
    "num_attention_heads": 5,
    "hidden_act": "swish2",
    "position_embedding_type": "relative_key",
    "is_decoder": True,
    "intermediate_size": 63,
    "num_hidden_layers": 4,
    "layer_norm_eps": "small",
}


@pytest.mark.parametrize("key", BROKEN)
def test_a_config_that_its_weights_do_not_fit_is_refused_by_name(tmp_path: Path, key: str) -> None:
    import json

    path = write_encoder(tmp_path, "bert")
    (path / "config.json").write_text(json.dumps({**CONFIGS["bert"], key: BROKEN[key]}))
    with pytest.raises(RpcError) as refused:
        drained(load_encoder_steps(Load(1, "m", str(path)), inspect("m", str(path)), None, native=True))  # type: ignore[arg-type]
    assert refused.value.kind in ("model_load_failed", "model_unsupported")
    part = {"intermediate_size": "intermediate.dense", "num_hidden_layers": "encoder.layer.3"}.get(key, key)
    assert part in refused.value.message

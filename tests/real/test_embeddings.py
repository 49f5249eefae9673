"""all-MiniLM-L6-v2 under the sidecar: its published numbers, and those of an implementation in double precision."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import real_embedder
from safetensors.numpy import load_file

from tests.support.encoder_models import embedded, hidden_states
from tests.support.programs import missing
from tests.support.sidecar import Sidecar, sidecar

pytestmark = pytest.mark.real

SENTENCES = [
    "This is an example sentence",
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "engine " * 120,
]
# As sentence-transformers publishes them for the first sentence.
FIRST_NUMBERS = [0.0677, 0.0635, 0.0487, 0.0793]


@pytest.fixture(scope="module")
def process() -> Iterator[Sidecar]:
    if not real_embedder.is_made():
        missing("the real encoder (tools/real_embedder.py fetches it)")
    with sidecar() as running:
        running.initialize()
        yield running


@pytest.fixture(scope="module")
def vectors(process: Sidecar) -> np.ndarray:
    result = process.call("embed", {"model": str(real_embedder.MODEL), "input": SENTENCES})
    assert (result["pooling"], result["dimensions"], result["normalized"]) == ("mean", 384, True)
    return np.array(result["embeddings"])


def test_the_published_numbers_come_out(vectors: np.ndarray) -> None:
    assert vectors[0][:4] == pytest.approx(FIRST_NUMBERS, abs=1e-4)
    assert vectors[1] @ vectors[2] == pytest.approx(0.7553, abs=1e-4)


def test_vectors_are_those_of_double_precision(process: Sidecar, vectors: np.ndarray) -> None:
    weights = load_file(real_embedder.MODEL / "model.safetensors")
    config = json.loads((real_embedder.MODEL / "config.json").read_text())
    for sentence, vector in zip(SENTENCES, vectors, strict=True):
        tokens = process.call("tokenize", {"model": str(real_embedder.MODEL), "text": sentence})["tokens"]
        expected = embedded(hidden_states(weights, config, tokens), "mean")
        assert vector @ expected >= 0.9999
        assert vector == pytest.approx(expected, abs=1e-6)


def test_texts_beyond_the_limit_of_the_checkpoint_are_refused_or_cut(process: Sidecar) -> None:
    params = {"model": str(real_embedder.MODEL), "input": ["engine " * 400]}
    assert process.error("embed", params)["data"]["limit"] == 256
    assert process.call("embed", {**params, "truncate": True})["usage"]["prompt_tokens"] == 256

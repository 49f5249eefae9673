"""Encoders as converters to mlx write them, under a sidecar: packed, and with their Dense among the weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.encoder_models import CONFIGS, WIDTH, embedded, hidden_states, write_encoder
from tests.support.quantised_models import quantise
from tests.support.sidecar import Sidecar, sidecar

FOUR_BITS = {"group_size": 32, "bits": 4, "mode": "affine"}
TEXTS = [[3 + (7 * number + at) % 290 for at in range(length)] for number, length in enumerate((1, 5, 30, 30, 90))]


@pytest.fixture(scope="module")
def process() -> Iterator[Sidecar]:
    with sidecar() as running:
        running.initialize()
        yield running


def with_dense(directory: Path, *shapes: tuple[int, int]) -> Path:
    """An EmbeddingGemma in ``directory`` with Dense modules of these ``shapes`` among its weights."""
    import mlx.core as mx

    write_encoder(directory, "gemma3_text", pooling=None)
    source, file = np.random.default_rng(1), str(directory / "model.safetensors")
    arrays: dict[str, mx.array] = mx.load(file)  # type: ignore[assignment]
    drawn = [source.standard_normal(shape).astype(np.float32) for shape in shapes]
    dense = {f"dense.{number}.weight": mx.array(weight) for number, weight in enumerate(drawn)}
    mx.eval(arrays)
    mx.save_safetensors(file, arrays | dense)
    return directory


def list_modules(directory: Path, *kinds: str) -> None:
    """Write the list of modules of these ``kinds``; the folders that it names are missing."""
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": f"{i}_{kind}"} for i, kind in enumerate(kinds)]
    modules[0]["path"] = ""
    (directory / "modules.json").write_text(json.dumps(modules))


def expected(weights: dict[str, Any], text: list[int], dimensions: int) -> np.ndarray:
    """The vector of ``text`` behind the two Dense modules among ``weights``."""
    dense = [(weights[f"dense.{i}.weight"].astype(np.float64), np.zeros(1), np.asarray) for i in range(2)]
    vector: np.ndarray = embedded(hidden_states(weights, CONFIGS["gemma3_text"], text), "mean", dimensions, dense)
    return vector


def test_a_quantised_encoder_is_computed_in_float32_from_its_weights_unpacked(process: Sidecar, tmp_path: Path) -> None:
    weights = quantise(write_encoder(tmp_path, "bert"), FOUR_BITS)
    card = process.call("load", {"model": str(tmp_path)})
    assert (card["dtype"], card["quantization"]) == ("float32", "4 bits, affine, groups of 32")
    vectors = process.call("embed", {"model": str(tmp_path), "input": TEXTS})["embeddings"]
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert vector == pytest.approx(embedded(hidden_states(weights, CONFIGS["bert"], text), "mean"), abs=2e-6)


@pytest.mark.parametrize("listed", [True, False])
def test_dense_modules_among_the_weights_stand_for_those_whose_folders_are_missing(
    process: Sidecar, tmp_path: Path, listed: bool
) -> None:
    weights = quantise(with_dense(tmp_path, (64, WIDTH), (24, 64)), FOUR_BITS)
    if listed:
        list_modules(tmp_path, "Transformer", "Pooling", "Dense", "Dense", "Normalize")
    card = process.call("load", {"model": str(tmp_path)})["embedding"]
    assert (card["dimensions"], card["pooling"], card["normalize"]) == (24, "mean", True)
    vectors = process.call("embed", {"model": str(tmp_path), "input": TEXTS, "dimensions": 9})["embeddings"]
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert vector == pytest.approx(expected(weights, text, 9), abs=5e-6)


@pytest.mark.parametrize(
    ("shapes", "kinds", "named"),
    [
        ([(64, WIDTH), (24, 63)], (), "dense.1"),
        ([(64, WIDTH)], ("Transformer", "Pooling", "Dense", "Dense"), "config.json"),
    ],
    ids=["weights that do not fit each other", "fewer weights than modules"],
)
def test_dense_modules_that_are_not_all_there_are_refused_by_name(
    process: Sidecar, tmp_path: Path, shapes: list[tuple[int, int]], kinds: tuple[str, ...], named: str
) -> None:
    with_dense(tmp_path, *shapes)
    if kinds:
        list_modules(tmp_path, *kinds)
    error = process.error("load", {"model": str(tmp_path)})
    assert error["data"]["kind"] == "model_load_failed"
    assert named in error["message"]


def test_dense_modules_among_the_weights_are_left_alone_where_the_list_of_modules_has_none(
    process: Sidecar, tmp_path: Path
) -> None:
    with_dense(tmp_path, (64, WIDTH), (24, 64))
    list_modules(tmp_path, "Transformer", "Pooling", "Normalize")
    assert process.call("load", {"model": str(tmp_path)})["embedding"]["dimensions"] == WIDTH

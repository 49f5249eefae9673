"""The prompts in a model's files stand before texts where a request names one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.encoder_models import POSITIONS, write_encoder
from tests.support.sidecar import Sidecar, sidecar

PROMPTS = {"query": "the engine answers ", "document": "", "a stream": "one stream "}


@pytest.fixture(scope="module")
def process() -> Iterator[Sidecar]:
    with sidecar("--numerics", "exact") as running:
        running.initialize()
        yield running


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_encoder(tmp_path_factory.mktemp("prompts"), "bert")
    told = {"prompts": PROMPTS, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(told))
    return directory


def test_the_card_lists_the_names_of_the_prompts(process: Sidecar, model: Path, tmp_path: Path) -> None:
    assert process.call("load", {"model": str(model)})["embedding"]["prompts"] == list(PROMPTS)
    write_encoder(tmp_path, "bert")
    assert "prompts" not in process.call("load", {"model": str(tmp_path)})["embedding"]


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_stands_before_each_text(process: Sidecar, model: Path, name: str) -> None:
    params = {"model": str(model), "input": ["one frame", "x"]}
    named = process.call("embed", {**params, "prompt": name})
    written = process.call("embed", {**params, "input": [PROMPTS[name] + text for text in params["input"]]})
    assert named["embeddings"] == written["embeddings"]
    assert named.get("prefix", "") == PROMPTS[name]


def test_an_unknown_prompt_is_refused_and_the_known_ones_are_told(process: Sidecar, model: Path) -> None:
    error = process.error("embed", {"model": str(model), "input": ["x"], "prompt": "passage"})
    assert error["data"]["errors"][0]["loc"] == ["prompt"]
    assert "query, document, a stream" in error["message"]


def test_a_prompt_that_leaves_nothing_of_a_text_is_refused_by_its_name(process: Sidecar, tmp_path: Path) -> None:
    directory = write_encoder(tmp_path, "bert")
    told = {"prompts": {"long": "one " * 2 * POSITIONS}}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(told))
    params = {"model": str(directory), "input": ["one"], "prompt": "long", "truncate": True}
    assert process.error("embed", params)["data"]["field"] == "prompt"

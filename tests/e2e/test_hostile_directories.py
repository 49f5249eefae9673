"""Model directories of strangers over the pipe: the fault of one is told, and no other model notices."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hostile_weights.bases import write_bases
from benchmarks.hostile_weights.trials import Trials
from mlx_sidecar import pocket
from tests.support.sidecar import Sidecar


def changed(directory: Path, name: str, **values: Any) -> str:
    """A copy of pocket in ``directory`` with ``values`` in one of its JSON files."""
    shutil.copytree(pocket.PATH, directory)
    file = directory / name
    content = json.loads(file.read_bytes()) if file.exists() else {}
    file.write_text(json.dumps({**content, **values}))
    return str(directory)


def test_mutated_directories_are_refused_or_run_and_the_stream_beside_them_does_not_notice(tmp_path: Path) -> None:
    with Trials(write_bases(tmp_path), tmp_path) as trials:
        for seed in range(40):
            trials.run(seed)
    assert not trials.broken
    assert {"answered", "model_load_failed"} <= set(trials.outcomes)


def test_a_refused_model_is_not_read_again_before_one_of_its_files_changes(shared: Sidecar, tmp_path: Path) -> None:
    model = changed(tmp_path / "m", "config.json", num_hidden_layers=1)

    def read(token: str) -> bool:
        error = shared.error("load", {"model": model, "progress": token})
        assert error["data"]["kind"] == "model_load_failed"
        progress = [frame["params"] for frame in shared.frames if frame.get("method") == "progress"]
        return any(each["token"] == token and each["stage"] == "reading" for each in progress)

    assert read("first")
    assert not read("second")
    shutil.copy(pocket.PATH / "config.json", model)
    assert shared.call("load", {"model": model})["state"] == "ready"


@pytest.mark.parametrize("value", [True, [True], "2", 2.5], ids=str)
def test_an_end_token_that_is_no_number_is_refused_by_name(shared: Sidecar, tmp_path: Path, value: object) -> None:
    model = changed(tmp_path / "m", "generation_config.json", eos_token_id=value)
    error = shared.error("generate", {"model": model, "prompt": "Hello", "max_tokens": 2})
    assert error["data"]["kind"] == "model_load_failed"
    assert "generation_config.json: eos_token_id" in error["message"]


@pytest.mark.parametrize("value", [2**64, [-1], None, []], ids=str)
def test_an_end_token_that_no_vocabulary_has_ends_nothing(shared: Sidecar, tmp_path: Path, value: object) -> None:
    model = changed(tmp_path / "m", "generation_config.json", eos_token_id=value)
    assert shared.call("generate", {"model": model, "prompt": "Hello", "max_tokens": 2})["text"]


@pytest.mark.parametrize("value", [True, 10**12, -5, 0, "long"], ids=str)
def test_a_length_that_means_nothing_is_no_length(shared: Sidecar, tmp_path: Path, value: object) -> None:
    model = changed(tmp_path / "m", "config.json", max_position_embeddings=value)
    assert shared.call("load", {"model": model})["context_length"] > 1000


def test_characters_that_cannot_be_encoded_come_back_in_an_error_that_can(shared: Sidecar, tmp_path: Path) -> None:
    model = changed(tmp_path / "m", "config.json", model_file="\ud800", quantization={"bits": "\ud800"})
    assert shared.error("load", {"model": model})["data"]["kind"] == "model_unsupported"

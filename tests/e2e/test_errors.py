"""Rows of the error table that need a real pipe or a real engine. All others: tests/pair/test_errors.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.sidecar import Sidecar, sidecar


def model_directory(path: Path, config: dict[str, Any], weights: bytes) -> str:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(weights)
    return str(path)


def told(error: dict[str, Any]) -> tuple[int, str]:
    return error["code"], error["data"]["kind"]


def test_what_is_not_json_is_a_parse_error_and_the_next_line_is_read() -> None:
    with sidecar("--engine", "fake", "--frame-limit-bytes", "1000") as process:
        process.write(b"{nonsense\n")
        assert told(process.answer(None)["error"]) == (-32700, "parse_error")
        process.request("generate", {"model": "fake", "prompt": "x" * 2000})
        refused = process.wait_for(lambda frame: frame.get("error", {}).get("code") == -32600)
        assert told(refused["error"]) == (-32600, "frame_too_large")
        assert process.call("ping") == {}


def test_a_name_that_leads_nowhere_is_model_not_found(shared: Sidecar) -> None:
    error = shared.error("load", {"model": "no-such-model"})
    assert told(error) == (-32001, "model_not_found")
    assert error["data"]["model"] == "no-such-model"
    assert told(shared.error("generate", {"model": "/no/such", "prompt": "x"})) == (-32001, "model_not_found")


def test_a_model_with_broken_weights_is_model_load_failed(shared: Sidecar, tmp_path: Path) -> None:
    config = {"model_type": "llama", "vocab_size": 64}
    directory = model_directory(tmp_path / "broken", config, b"this is not safetensors")
    assert told(shared.error("load", {"model": directory})) == (-32001, "model_load_failed")
    assert shared.call("ping") == {}


def test_an_unknown_architecture_is_model_unsupported(shared: Sidecar, tmp_path: Path) -> None:
    weights = (8).to_bytes(8, "little") + b"{}      "
    directory = model_directory(tmp_path / "alien", {"model_type": "no_such_architecture"}, weights)
    assert told(shared.error("load", {"model": directory})) == (-32001, "model_unsupported")

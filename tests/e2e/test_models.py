"""Loading over the pipe: the same model twice, two hosts of one load, a load that fails half-way."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlx_sidecar import pocket
from tests.support.sidecar import sidecar


def test_loading_a_resident_model_again_answers_its_card_whatever_is_left_out() -> None:
    with sidecar() as process:
        first = process.call("load", {"model": "mine", "path": str(pocket.PATH), "dtype": "float16", "pin": True})
        again = process.call("load", {"model": "mine"})
        assert again["load_s"] == 0
        assert {name: again[name] for name in ("path", "dtype", "pinned")} == {
            name: first[name] for name in ("path", "dtype", "pinned")
        }


def test_a_model_with_a_broken_tokenizer_is_not_left_in_memory(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(pocket.PATH, broken)
    (broken / "tokenizer.json").write_text("{}")
    with sidecar() as process:
        error = process.error("load", {"model": "mine", "path": str(broken)})
        assert error["data"]["kind"] == "model_load_failed"
        assert error["data"]["model"] == "mine"
        assert "mine" not in [card["model"] for card in process.call("models")["models"]]
        shutil.copy(pocket.PATH / "tokenizer.json", broken)
        assert process.call("load", {"model": "mine", "path": str(broken)})["state"] == "ready"


def test_stats_say_how_much_memory_the_models_take() -> None:
    with sidecar("--engine", "fake") as process:
        assert process.call("stats")["memory"].get("models_bytes", 0) == 0
        process.call("load", {"model": "fake?memory_bytes=12345"})
        assert process.call("stats")["memory"]["models_bytes"] == 12345

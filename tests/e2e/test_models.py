"""Loading over the pipe: the same model twice, two hosts of one load, a load that fails half-way."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlx_sidecar import pocket
from tests.support.sidecar import sidecar

FAKE = ("--engine", "fake")


def test_loading_a_resident_model_again_answers_its_card_whatever_is_left_out() -> None:
    with sidecar() as process:
        first = process.call("load", {"model": "mine", "path": str(pocket.PATH), "dtype": "float16", "pin": True})
        again = process.call("load", {"model": "mine"})
        assert again["load_s"] == 0
        assert {name: again[name] for name in ("path", "dtype", "pinned")} == {
            name: first[name] for name in ("path", "dtype", "pinned")
        }


def test_loading_a_resident_model_in_another_way_is_refused_and_names_the_field() -> None:
    with sidecar(*FAKE) as process:
        process.call("load", {"model": "fake"})
        error = process.error("load", {"model": "fake", "dtype": "float16"})
        assert error["data"]["kind"] == "invalid_params"
        (fault,) = error["data"]["errors"]
        assert fault["loc"] == ["dtype"]
        assert error["message"] == f"dtype: {fault['msg']}"


def test_a_model_with_a_broken_tokenizer_is_not_left_in_memory(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(pocket.PATH, broken)
    (broken / "tokenizer.json").write_text("{}")
    with sidecar() as process:
        error = process.error("load", {"model": "mine", "path": str(broken)})
        assert error["data"]["kind"] == "model_load_failed"
        assert error["data"]["model"] == "mine"
        assert process.call("models")["models"] == []
        shutil.copy(pocket.PATH / "tokenizer.json", broken)
        assert process.call("load", {"model": "mine", "path": str(broken)})["state"] == "ready"


def test_a_cancelled_load_is_taken_over_by_the_request_that_waits_for_the_same_model() -> None:
    model = "fake?load_ms=300"
    with sidecar(*FAKE) as process:
        first = process.request("load", {"model": model, "progress": "first"})
        process.notification("progress", token="first")
        second = process.request("load", {"model": model, "progress": "second"})
        process.notify("$/cancelRequest", {"id": first})
        assert process.answer(first)["error"]["data"]["kind"] == "cancelled"
        assert process.result(second)["state"] == "ready"
        assert process.call("stats")["counters"]["loads"] == 1


def test_stats_say_how_much_memory_the_models_take() -> None:
    with sidecar(*FAKE) as process:
        assert process.call("stats")["memory"].get("models_bytes", 0) == 0
        process.call("load", {"model": "fake?memory_bytes=12345"})
        assert process.call("stats")["memory"]["models_bytes"] == 12345


def test_times_beyond_any_life_are_taken_and_stop_nothing() -> None:
    with sidecar(*FAKE) as process:
        process.call("load", {"model": "fake?tokens=50&delay_ms=1", "ttl_s": 1e300})
        params = {"model": "fake?tokens=50&delay_ms=1", "prompt": "x", "stream": "s", "min_interval_ms": 10**400}
        waiting = process.request("generate", params)
        process.notification("stream/delta", stream="s")
        process.call("ping")  # while the next delta is due in the far future
        assert process.result(waiting)["finish_reason"] == "stop"
        assert process.call("stats")["engine"]["restarts"] == 0

"""Adapters of requests, as a host meets them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlx_sidecar.pocket import PATH as POCKET
from tests.support.adapters import prompt, shapes_of, write_adapter
from tests.support.sidecar import ROOT, Sidecar, sidecar

TRAINED = {"model": "pocket", "adapter": "trained"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def trained(directory: Path) -> dict[str, Any]:
    """The answers of mlx-lm with the adapter that its trainer has made in ``directory / "trained"``."""
    command = [sys.executable, "-m", "tests.support.adapter_training", str(directory / "trained")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def process(directory: Path) -> Iterator[Sidecar]:
    shapes = shapes_of(POCKET)
    for seed in range(3):
        write_adapter(directory / f"random {seed}", shapes, rank=4 + seed, seed=seed, size=0.2, peft=seed == 1)
    with sidecar("--numerics", "exact") as running:
        running.initialize()
        yield running


def load(process: Sidecar, directory: Path, adapter: str) -> dict[str, Any]:
    params = {"model": "pocket", "adapter": adapter, "path": str(directory / adapter)}
    card: dict[str, Any] = process.call("adapter/load", params)
    return card


def is_of(stream: str, frame: dict[str, Any]) -> bool:
    return bool(frame.get("params", {}).get("stream") == stream)


def unload(process: Sidecar, adapter: str) -> None:
    process.call("adapter/unload", {"model": "pocket", "adapter": adapter})


def test_a_trained_adapter_gives_its_answer_and_the_one_of_mlx_lm(
    process: Sidecar, directory: Path, trained: dict[str, Any]
) -> None:
    card = load(process, directory, "trained")
    assert (card["format"], card["rank"], card["scale"], card["resident"]) == ("mlx-lm", 8, 10.0, True)
    assert "self_attn.q_proj" in card["targets"]
    params = {"model": "pocket", "tokens": trained["prompt"], "max_tokens": len(trained["tuned"]), "ignore_eos": True}
    plain = process.request("generate", params)
    tuned = process.request("generate", {**params, "adapter": "trained"})
    assert process.result(tuned)["tokens"] == trained["tuned"] == trained["wanted"]
    assert process.result(plain)["tokens"] == trained["base"] != trained["tuned"]


def test_the_cards_tell_what_there_is(process: Sidecar, directory: Path) -> None:
    card = load(process, directory, "random 1")
    again = load(process, directory, "random 1")
    assert again == {**card, "load_s": 0}
    [listed] = [
        each for each in process.call("adapters", {"model": "pocket"})["adapters"] if each["adapter"] == "random 1"
    ]
    assert listed == {name: value for name, value in card.items() if name != "load_s"}
    assert card["format"] == "peft"
    assert card["projections"] == 7 * 4
    assert process.call("stats")["gauges"]["adapters_bytes"] >= card["memory_bytes"]


def test_adapters_are_loaded_and_unloaded_while_others_answer(process: Sidecar, directory: Path) -> None:
    params = {"model": "pocket", "prompt": "Once", "max_tokens": 200, "ignore_eos": True}
    expected = process.call("generate", params)["tokens"]
    running = process.requests("generate", [params] * 4)
    for _ in range(3):
        load(process, directory, "random 0")
        short = {**params, "max_tokens": 4, "adapter": "random 0"}
        users = process.requests("generate", [short] * 3)
        unload(process, "random 0")
        assert {tuple(process.result(id_)["tokens"]) for id_ in users} == {tuple(process.result(users[0])["tokens"])}
    assert [process.result(id_)["tokens"] for id_ in running] == [expected] * 4


def test_an_unload_refuses_what_is_read_behind_it_and_waits_for_what_was_read_before(
    process: Sidecar, directory: Path
) -> None:
    load(process, directory, "random 0")
    asked = {"model": "pocket", "prompt": "Once", "max_tokens": 60, "ignore_eos": True, "adapter": "random 0"}
    before = process.request("generate", {**asked, "stream": "before"})
    process.wait_for(partial(is_of, "before"))
    leaving = process.request("adapter/unload", {"model": "pocket", "adapter": "random 0"})
    behind = process.request("generate", asked)
    assert process.answer(behind)["error"]["data"]["kind"] == "unknown_adapter"
    assert len(process.result(before)["tokens"]) == 60
    assert process.result(leaving)["freed_bytes"] > 0


def test_a_cancelled_unload_lets_requests_name_the_adapter_again(process: Sidecar, directory: Path) -> None:
    load(process, directory, "random 0")
    asked = {"model": "pocket", "prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "adapter": "random 0"}
    long = process.request("generate", {**asked, "stream": "long"})
    process.wait_for(partial(is_of, "long"))
    leaving = process.request("adapter/unload", {"model": "pocket", "adapter": "random 0"})
    process.notify("$/cancelRequest", {"id": leaving})
    assert process.answer(leaving)["error"]["data"]["kind"] == "cancelled"
    assert process.call("generate", {**asked, "max_tokens": 2})["finish_reason"] == "length"
    process.notify("$/cancelRequest", {"id": long})
    process.result(long)
    unload(process, "random 0")


def test_streams_with_adapters_outlive_the_engine(process: Sidecar, directory: Path) -> None:
    for name in ("random 0", "random 2"):
        load(process, directory, name)
    params = {"model": "pocket", "prompt": "A story", "max_tokens": 300, "ignore_eos": True}
    asked = [{**params, "adapter": name} for name in ("random 0", "random 2")] + [params]
    expected = [process.call("generate", each)["tokens"] for each in asked]
    assert len(set(map(tuple, expected))) == 3
    pid = process.engine_pid()
    ids = [process.request("generate", {**each, "stream": f"kill {at}"}) for at, each in enumerate(asked)]
    for at in range(3):
        process.wait_for(partial(is_of, f"kill {at}"))
    process.signal_engine(signal.SIGKILL, pid)
    assert [process.result(id_)["tokens"] for id_ in ids] == expected
    assert [each["adapter"] for each in process.call("adapters", {"model": "pocket"})["adapters"]]
    assert process.call("generate", asked[0])["tokens"] == expected[0]


@pytest.mark.parametrize(
    ("method", "params", "kind", "names"),
    [
        ("generate", {"model": "pocket", "prompt": "x", "adapter": "none"}, "unknown_adapter", {"adapter": "none"}),
        ("adapter/unload", {"model": "pocket", "adapter": "none"}, "unknown_adapter", {"adapter": "none"}),
        (
            "adapter/load",
            {"model": "pocket", "adapter": "a", "path": "/nowhere"},
            "adapter_load_failed",
            {"adapter": "a"},
        ),
        ("adapter/load", {"model": "pocket", "adapter": "", "path": "x"}, "invalid_params", {}),
        ("adapters", {"model": "not loaded"}, "model_not_loaded", {"model": "not loaded"}),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    process: Sidecar, method: str, params: dict[str, Any], kind: str, names: dict[str, str]
) -> None:
    data = process.error(method, params)["data"]
    assert data["kind"] == kind
    assert names.items() <= data.items()


def test_a_wrong_shape_is_refused_by_the_name_of_its_tensor(process: Sidecar, directory: Path) -> None:
    write_adapter(directory / "wrong", {"model.layers.0.self_attn.q_proj": (64, 128)})
    error = process.error("adapter/load", {"model": "pocket", "adapter": "wrong", "path": str(directory / "wrong")})
    assert error["data"]["kind"] == "adapter_load_failed"
    assert "'model.layers.0.self_attn.q_proj.lora_a' is [64, 4]" in error["message"]


def test_a_name_that_is_taken_is_refused_with_another_path(process: Sidecar, directory: Path) -> None:
    load(process, directory, "random 0")
    params = {"model": "pocket", "adapter": "random 0", "path": str(directory / "random 2")}
    assert [each["loc"] for each in process.error("adapter/load", params)["data"]["errors"]] == [["path"]]


def test_a_model_with_an_adapter_of_its_own_takes_none(process: Sidecar, directory: Path) -> None:
    process.call("load", {"model": "fused", "path": str(POCKET), "adapter": str(directory / "random 0")})
    loading = {"model": "fused", "adapter": "x", "path": str(directory / "random 0")}
    asked = {"model": "fused", "prompt": "x", "adapter": "x"}
    for method, params in (("adapter/load", loading), ("generate", asked)):
        data = process.error(method, params)["data"]
        assert (data["kind"], data["name"]) == ("unsupported_parameter", "adapter")
        assert data["because"] == "the model was loaded with an adapter of its own"


def test_an_adapter_of_dora_is_refused_for_requests(process: Sidecar, directory: Path) -> None:
    write_adapter(directory / "dora", shapes_of(POCKET), config={"fine_tune_type": "dora"})
    error = process.error("adapter/load", {"model": "pocket", "adapter": "dora", "path": str(directory / "dora")})
    assert error["data"]["kind"] == "adapter_unsupported"
    assert "load it as a model of its own" in error["message"]


def test_the_same_prompt_is_cached_for_each_adapter_by_itself(process: Sidecar, directory: Path) -> None:
    load(process, directory, "random 2")
    params = {"model": "pocket", "tokens": prompt(5, 150, 1000), "max_tokens": 2}

    def cached(**adapter: str) -> int:
        count: int = process.call("generate", {**params, **adapter})["usage"]["cached_tokens"]
        return count

    assert [cached(adapter="random 2"), cached(), cached(adapter="random 2")] == [0, 0, 149]
    process.call("cache/clear", {"model": "pocket"})
    assert cached(adapter="random 2") == 0


def test_an_evicted_model_comes_back_with_its_adapters_and_an_unloaded_one_without(
    process: Sidecar, directory: Path
) -> None:
    asked = {"model": "p", "prompt": "Once", "max_tokens": 8, "adapter": "x"}
    process.call("load", {"model": "p", "path": str(POCKET)})
    process.call("adapter/load", {"model": "p", "adapter": "x", "path": str(directory / "random 0")})
    before = process.call("generate", asked)["tokens"]
    process.call("load", {"model": "p", "path": str(POCKET), "ttl_s": 0.01})
    while any(card["model"] == "p" for card in process.call("models")["models"]):
        pass  # its time to live is over soon
    process.call("load", {"model": "p", "path": str(POCKET), "ttl_s": 1000})
    assert process.call("generate", asked)["tokens"] == before
    process.call("unload", {"model": "p"})
    process.call("load", {"model": "p", "path": str(POCKET)})
    error = process.error("generate", {"model": "p", "prompt": "x", "adapter": "x"})
    assert error["data"]["kind"] == "unknown_adapter"

"""Streams over real pipes, and on a real model. All other promises about them: tests/pair/."""

from __future__ import annotations

import psutil
import pytest

from tests.support.sidecar import Sidecar, sidecar
from tests.support.streamed import (
    assert_a_window_changes_nothing,
    assert_logprobs_streamed,
    assert_whole,
)

FAKE = ("--engine", "fake")


@pytest.mark.parametrize("framing", ["lines", "headers"])
def test_deltas_are_numbered_without_gaps_and_add_up_to_the_answer(framing: str) -> None:
    with sidecar(*FAKE, framing=framing) as process:
        result = process.call("generate", {"model": "fake?tokens=300&wide=1&delay_ms=1", "prompt": "x", "stream": "s"})
        assert_whole(process.deltas("s"), result)
        assert result["finish_reason"] == "stop"


def test_cancel_ends_a_request_with_exactly_one_answer() -> None:
    with sidecar(*FAKE) as process:
        slow = {"model": "fake?tokens=100000&context=200000&delay_ms=20", "prompt": "x", "stream": "s"}
        id_ = process.request("generate", slow)
        process.notification("stream/delta", stream="s")
        process.notify("$/cancelRequest", {"id": id_})
        result = process.result(id_)
        assert result["finish_reason"] == "cancelled"
        process.call("ping")
        assert sum(frame.get("id") == id_ for frame in process.frames) == 1


def test_a_host_that_stops_reading_loses_nothing_and_can_still_cancel_another_stream() -> None:
    with sidecar(*FAKE, pipe_bytes=4096) as process:
        other = process.request(
            "generate",
            {"model": "fake?tokens=100000&context=200000&delay_ms=50", "prompt": "x", "stream": "other"},
        )
        process.notification("stream/delta", stream="other")
        process.stop_reading()
        id_ = process.request("generate", {"model": "fake?tokens=5000&context=100000", "prompt": "x", "stream": "s"})
        process.notify("$/cancelRequest", {"id": other})
        process.go_on_reading()
        result = process.result(id_)
        assert_whole(process.deltas("s"), result)
        assert process.result(other)["finish_reason"] == "cancelled"


def test_stats_are_true_and_the_front_holds_no_mlx() -> None:
    with sidecar() as process:
        process.initialize()
        process.notification("engine/state", state="ready")
        stats = process.call("stats")
        assert stats["engine"]["backend"] == "cpu"
        assert stats["health"]["status"] == "ok"
        assert psutil.Process(stats["engine"]["pid"]).ppid() == process.process.pid
        libraries = [entry.path for entry in psutil.Process(process.process.pid).memory_maps()]
        assert not [path for path in libraries if "libmlx" in path]


def test_a_host_that_acknowledges_everything_gets_the_answer_it_gets_without_a_window() -> None:
    with sidecar() as process:
        assert_a_window_changes_nothing(process, "pocket")


@pytest.mark.parametrize("alternatives", [0, 1, 20])
def test_log_probabilities_are_one_for_each_token_and_the_same_streamed(shared: Sidecar, alternatives: int) -> None:
    assert_logprobs_streamed(shared, "pocket", alternatives, stream=f"of {alternatives} alternatives")


def test_sampled_tokens_have_log_probabilities_of_the_models_own_distribution(shared: Sidecar) -> None:
    params = {"model": "pocket", "prompt": "Hello", "logprobs": 1, "max_tokens": 1}
    (greedy,) = shared.call("generate", params)["logprobs"]
    (sampled,) = shared.call("generate", {**params, "temperature": 5.0, "seed": 1})["logprobs"]
    assert sampled["top"][0]["token"] == greedy["token"]
    assert abs(sampled["top"][0]["logprob"] - greedy["logprob"]) < 1e-3
    assert sampled["logprob"] <= greedy["logprob"]

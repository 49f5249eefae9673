"""Engines that die, hang and will not start, as processes, because the threads of tests/pair/ cannot show this."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

import psutil
import pytest

from tests.support.host import Frame
from tests.support.sidecar import Sidecar, sidecar
from tests.support.streamed import assert_outlives_a_hang, assert_same, assert_whole

FAKE = ("--engine", "fake")
STEADY = "fake?tokens=120&delay_ms=5"
ENDLESS = "fake?tokens=100000&delay_ms=5&context=200000"
NUMBERS = (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: signal.Signals(number).name)
def test_a_stream_goes_on_where_the_engine_died(number: int) -> None:
    params = {"model": STEADY, "prompt": "Hello", "seed": 5}
    with sidecar(*FAKE) as process:
        process.initialize()
        undisturbed = process.call("generate", params)
        streamed = process.request("generate", {**params, "stream": "s"})
        process.notification("stream/delta", stream="s")
        process.end_engine(number)
        assert signal.Signals(number).name in process.notification("stream/interrupted", stream="s")["because"]
        result = process.result(streamed)
        assert_whole(process.deltas("s"), result)
        assert_same(result, undisturbed)


def test_a_request_that_ends_every_engine_is_refused_as_poison() -> None:
    with sidecar(*FAKE) as process:
        error = process.error("generate", {"model": "fake?poison_after=0", "prompt": "x"})
        assert (error["code"], error["data"]["kind"], error["data"]["retryable"]) == (-32006, "poison_request", False)
        assert error["data"]["because"] == "exited with status 70"


def test_a_deadline_counts_on_while_there_is_no_engine() -> None:
    with sidecar(*FAKE, "--stall-after-s", "60") as process:
        process.initialize()
        params = {
            "model": ENDLESS,
            "prompt": "x",
            "stream": "s",
            "deadline_s": 1.0,
        }
        running = process.request("generate", params)
        process.notification("stream/delta", stream="s")
        os.kill(process.engine_pid(), signal.SIGSTOP)
        result = process.result(running)
        assert result["finish_reason"] == "deadline"
        assert_whole(process.deltas("s"), result)


def test_a_cancel_takes_effect_in_an_engine_that_is_stopped() -> None:
    with sidecar(*FAKE, "--stall-after-s", "60") as process:
        process.initialize()
        running = process.request("generate", {"model": ENDLESS, "prompt": "x", "stream": "s"})
        process.notification("stream/delta", stream="s")
        os.kill(process.engine_pid(), signal.SIGSTOP)
        process.call("stream/cancel", {"stream": "s"})
        assert process.result(running)["finish_reason"] == "cancelled"


def test_an_engine_that_is_stopped_is_not_called_ready() -> None:
    with sidecar(*FAKE, "--stall-after-s", "60") as process:
        process.initialize()
        process.call("load", {"model": "fake"})
        assert process.call("stats")["health"]["ready"]
        os.kill(process.engine_pid(), signal.SIGSTOP)
        health = process.call("stats")["health"]
        assert (health["status"], health["ready"]) == ("degraded", False)


@pytest.mark.parametrize("way", ["stopped", "hung"])
def test_an_engine_that_hangs_is_replaced_and_its_streams_go_on(way: str) -> None:
    with sidecar(*FAKE, "--stall-after-s", "1") as process:
        process.initialize()

        def stop() -> None:
            os.kill(process.engine_pid(), signal.SIGSTOP)
            process.request("stats")  # a stopped engine that is asked nothing hangs no host

        if way == "stopped":
            assert_outlives_a_hang(process, STEADY, stop)
        else:
            assert_outlives_a_hang(process, STEADY + "&hang_after=20")


def next_of(process: Sidecar, request: Any, seq: int) -> bool:
    """Whether the delta of this number of stream ``s`` comes, and not the answer to its request."""

    def comes(frame: Frame) -> bool:
        if "method" not in frame:
            return bool(frame.get("id") == request)
        return frame["method"] == "stream/delta" and bool(frame["params"]["seq"] == seq)

    return "method" in process.wait_for(comes)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "top_p": 0.95, "seed": 11}], ids=["greedy", "seeded"])
def test_a_real_model_goes_on_with_the_text_of_an_undisturbed_run(sampling: Frame) -> None:
    params = {"model": "pocket", "prompt": "What is a stream?", "max_tokens": 500, "ignore_eos": True, **sampling}
    with sidecar("--numerics", "exact") as process:
        process.initialize()
        undisturbed = process.call("generate", params)
        # With a window it is not done before it is disturbed, however fast it is.
        running = process.request("generate", {**params, "stream": "s", "window": 1})
        for seq in range(2):
            process.notification("stream/delta", stream="s", seq=seq)
            process.end_engine(signal.SIGKILL)
            process.notify("stream/ack", {"stream": "s", "seq": seq})
        seq = 2
        while next_of(process, running, seq):
            process.notify("stream/ack", {"stream": "s", "seq": seq})
            seq += 1
        result = process.result(running)
        assert_same(result, undisturbed)
        assert_whole(process.deltas("s"), result)


def kill_engines_until_given_up(process: Sidecar) -> Frame:
    """Kill each engine as soon as there is one; returns the last words of the front."""
    front = psutil.Process(process.process.pid)
    while not any(frame.get("params", {}).get("state") == "failed" for frame in list(process.frames)):
        for child in front.children():
            with suppress(psutil.NoSuchProcess):
                child.kill()
    return process.notification("engine/state", state="failed")


def test_engines_that_never_start_are_given_up_and_everybody_is_told() -> None:
    with sidecar(*FAKE) as process:
        process.initialize()
        process.notification("engine/state", state="ready")
        begun = process.request("generate", {"model": ENDLESS, "prompt": "x", "stream": "s"})
        process.notification("stream/delta", stream="s")
        failed = kill_engines_until_given_up(process)
        assert "times in a row" in failed["because"]
        result = process.result(begun)
        assert (result["finish_reason"], result["error"]["data"]["kind"]) == ("error", "engine_lost")
        refused = process.error("generate", {"model": "fake", "prompt": "x"})
        assert (refused["code"], refused["data"]["kind"], refused["data"]["retryable"]) == (-32006, "engine_lost", True)
        assert "times in a row" in refused["data"]["because"]
        health = process.call("stats")["health"]
        assert (health["status"], health["ready"]) == ("failed", False)
        process.call("load", {"model": "fake"})
        assert process.call("generate", {"model": "fake", "prompt": "x"})["finish_reason"] == "stop"

"""Engines that die, hang and will not start, under streams: each says the same text, with the next number."""

from __future__ import annotations

import signal
from itertools import pairwise
from typing import Any

import pytest

from tests.support.host import Frame
from tests.support.pair import pair
from tests.support.streamed import assert_outlives_a_hang, assert_same, assert_whole

STEADY = "fake?tokens=120&delay_ms=5"
NUMBERS = (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: signal.Signals(number).name)
def test_a_stream_goes_on_where_the_engine_died(number: int) -> None:
    params = {"model": STEADY, "prompt": "Hello", "seed": 5}
    with pair() as process:
        process.initialize()
        undisturbed = process.call("generate", params)
        streamed = process.request("generate", {**params, "stream": "s"})
        silent = process.request("generate", params)
        process.notification("stream/delta", stream="s")
        process.end_engine(number)
        notice = process.notification("stream/interrupted", stream="s")
        assert signal.Signals(number).name in notice["because"]
        result = process.result(streamed)
        assert_whole(process.deltas("s"), result)
        assert_same(result, undisturbed)
        assert_same(process.result(silent), undisturbed)
        at = process.frames.index(next(f for f in process.frames if f.get("method") == "stream/interrupted"))
        after = [f["params"]["seq"] for f in process.frames[at:] if f.get("method") == "stream/delta"]
        assert after[0] == notice["last_seq"] + 1


def test_the_states_of_the_engine_are_told_in_order() -> None:
    with pair() as process:
        process.initialize()
        process.notification("engine/state", state="ready")
        process.end_engine(signal.SIGKILL)
        process.notification("engine/state", state="ready", restarts=1)
        states = [frame["params"] for frame in process.frames if frame.get("method") == "engine/state"]
        assert [state["state"] for state in states][-3:] == ["lost", "starting", "ready"]
        assert all(one["state"] != next_["state"] for one, next_ in pairwise(states))
        assert "SIGKILL" in states[-3]["because"]
        health = process.call("stats")["health"]
        assert (health["status"], health["restarts"], health["ready"]) == ("ok", 1, False)  # no model is loaded
        process.call("load", {"model": "fake"})
        assert process.call("stats")["health"]["ready"]


def test_what_was_loaded_is_loaded_again_as_it_was() -> None:
    with pair("--no-autoload") as process:
        process.initialize()
        process.call("load", {"model": "fake?tokens=3", "pin": True, "dtype": "float16"})
        process.call("load", {"model": "fake?tokens=4", "ttl_s": 3600})
        before = process.call("models")["models"]
        process.end_engine(signal.SIGKILL)
        # A request that comes meanwhile waits, though nothing may be loaded on the side.
        assert process.call("generate", {"model": "fake?tokens=4", "prompt": "x"})["usage"]["completion_tokens"] == 4
        assert process.call("generate", {"model": "fake?tokens=3", "prompt": "x"})["usage"]["completion_tokens"] == 3
        after = process.call("models")["models"]

        def essence(cards: list[Frame]) -> list[Any]:
            return sorted((card["model"], card["state"], card["pinned"], card["dtype"]) for card in cards)

        assert essence(after) == essence(before)


def test_a_load_outlives_the_engine_it_was_asked_of() -> None:
    with pair() as process:
        process.initialize()
        process.notification("engine/state", state="ready")
        load = process.request("load", {"model": "fake?load_ms=300&load_steps=30", "progress": 1})
        process.notification("progress", token=1)
        process.end_engine(signal.SIGKILL)
        assert process.result(load)["state"] == "ready"


def test_a_window_that_was_used_up_stays_so_and_opens_with_an_ack() -> None:
    params = {"model": "fake?tokens=30&delay_ms=1", "prompt": "x", "stream": "s", "window": 1}
    with pair() as process:
        process.initialize()
        running = process.request("generate", params)
        process.notification("stream/delta", stream="s", seq=0)
        process.end_engine(signal.SIGKILL)
        process.notification("engine/state", state="ready", restarts=1)
        for seq in range(30):
            process.call("stream/ack", {"stream": "s", "seq": seq})
            found = process.wait_for(
                lambda f, seq=seq: f.get("id") == running or f.get("params", {}).get("seq") == seq + 1  # type: ignore[misc]
            )
            if found.get("id") == running:
                break
        result = process.result(running)
        assert result["usage"]["completion_tokens"] == 30
        assert_whole(process.deltas("s"), result)


def test_log_probabilities_penalties_and_stop_strings_outlive_the_engine() -> None:
    params = {"model": STEADY, "prompt": "y", "seed": 1, "logprobs": 2, "stop": ["zzz"], "repetition_penalty": 1.3}
    with pair() as process:
        process.initialize()
        undisturbed = process.call("generate", params)
        running = process.request("generate", {**params, "stream": "s"})
        process.notification("stream/delta", stream="s")
        process.end_engine(signal.SIGKILL)
        result = process.result(running)
        assert_same(result, undisturbed)
        assert result["logprobs"] == undisturbed["logprobs"]


def test_two_poisons_among_sixteen_get_their_answer_and_fourteen_finish() -> None:
    with pair() as process:
        process.initialize()
        undisturbed = {
            seed: process.call("generate", {"model": STEADY, "prompt": "x", "seed": seed}) for seed in range(14)
        }
        poison = [
            process.request(
                "generate", {"model": f"{STEADY}&poison_after={after}", "prompt": "x", "stream": f"p{after}"}
            )
            for after in (0, 7)
        ]
        others = {
            seed: process.request("generate", {"model": STEADY, "prompt": "x", "seed": seed, "stream": f"s{seed}"})
            for seed in range(14)
        }
        error = process.answer(poison[0])["error"]
        assert (error["code"], error["data"]["kind"], error["data"]["retryable"]) == (-32006, "poison_request", False)
        result = process.result(poison[1])
        assert (result["finish_reason"], result["error"]["data"]["kind"]) == ("error", "poison_request")
        assert result["usage"]["completion_tokens"] == 7
        for seed, id_ in others.items():
            finished = process.result(id_)
            assert_same(finished, undisturbed[seed])
            assert_whole(process.deltas(f"s{seed}"), finished)


def test_a_step_that_raises_is_tried_again_on_the_same_engine() -> None:
    with pair() as process:
        process.initialize()
        undisturbed = process.call("generate", {"model": STEADY, "prompt": "x", "seed": 2})
        params = {"model": STEADY + "&raise_after=9", "prompt": "x", "seed": 2, "stream": "s"}
        result = process.result(process.request("generate", params))
        assert_same(result, undisturbed)
        assert_whole(process.deltas("s"), result)
        assert "step failed" in process.notification("stream/interrupted", stream="s")["because"]
        assert process.call("stats")["health"]["restarts"] == 0


def test_an_engine_that_hangs_is_replaced_and_its_streams_go_on() -> None:
    with pair("--stall-after-s", "1") as process:
        process.initialize()
        assert_outlives_a_hang(process, STEADY + "&hang_after=20")


def test_requests_beyond_the_journal_are_refused_with_the_numbers() -> None:
    with pair("--journal-limit-bytes", "4000") as process:
        assert process.initialize()["limits"]["journal_bytes"] == 4000
        running = process.request("generate", {"model": STEADY, "prompt": "x", "max_tokens": 500, "stream": "s"})
        process.notification("stream/delta", stream="s")
        error = process.error("generate", {"model": STEADY, "prompt": "x", "max_tokens": 600})
        assert (error["code"], error["data"]["kind"]) == (-32005, "out_of_memory")
        assert error["data"]["need_bytes"] > error["data"]["have_bytes"]
        assert process.result(running)["finish_reason"] == "stop"
        assert process.call("generate", {"model": STEADY, "prompt": "x", "max_tokens": 600})["finish_reason"] == "stop"

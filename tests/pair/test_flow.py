"""A host controls the flow of a generation: windows and acks, deadlines, priorities, log-probabilities."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.pair import pair
from tests.support.streamed import (
    answer_or_delta,
    assert_a_window_changes_nothing,
    assert_logprobs,
    assert_logprobs_streamed,
    assert_whole,
)

ENDLESS = "fake?tokens=100000&context=200000&delay_ms=1"


# Windows.


def test_a_stream_goes_no_further_than_its_window_and_on_with_an_ack() -> None:
    with pair() as process:
        id_ = process.request("generate", {"model": ENDLESS, "prompt": "x", "stream": "s", "window": 2})
        process.notification("stream/delta", stream="s", seq=1)
        # A stream without a window that was opened later passes it by.
        other = process.call("generate", {"model": "fake?tokens=100&delay_ms=1", "prompt": "x", "stream": "t"})
        assert_whole(process.deltas("t"), other)
        assert len(process.deltas("s")) == 2
        for seq in range(6):
            assert process.call("stream/ack", {"stream": "s", "seq": seq}) == {}
            process.notification("stream/delta", stream="s", seq=seq + 2)
        process.call("stream/cancel", {"stream": "s"})
        result = process.result(id_)
        assert result["finish_reason"] == "cancelled"
        assert_whole(process.deltas("s"), result)


def test_a_stream_whose_window_is_used_up_is_not_decoded() -> None:
    with pair() as process:
        id_ = process.request("generate", {"model": ENDLESS, "prompt": "x", "stream": "s", "window": 1})
        process.notification("stream/delta", stream="s", seq=0)

        def decoded() -> int:
            return int(process.call("stats")["counters"]["completion_tokens"])

        meanwhile = 0
        while meanwhile != 200:  # those of the other alone, once the pause has reached the engine
            before = decoded()
            process.call("generate", {"model": "fake?tokens=200&delay_ms=1", "prompt": "x"})
            meanwhile = decoded() - before
        process.call("stream/cancel", {"stream": "s"})
        assert process.result(id_)["usage"]["completion_tokens"] < 100_000


def test_a_host_that_acknowledges_everything_gets_the_answer_it_gets_without_a_window() -> None:
    with pair() as process:
        assert_a_window_changes_nothing(process, "fake?tokens=300&wide=1&delay_ms=1")


@pytest.mark.parametrize("ending", ["cancel", "deadline", "shutdown"])
def test_a_stream_that_waits_for_acks_that_never_come_can_still_end(ending: str) -> None:
    with pair() as process:
        more: dict[str, Any] = {"deadline_s": 0.5} if ending == "deadline" else {}
        id_ = process.request("generate", {"model": ENDLESS, "prompt": "x", "stream": "s", "window": 1, **more})
        process.notification("stream/delta", stream="s", seq=0)
        if ending == "cancel":
            process.notify("$/cancelRequest", {"id": id_})
        elif ending == "shutdown":
            process.request("shutdown", {"cancel": True})
        result = process.result(id_)
        assert result["finish_reason"] == ("deadline" if ending == "deadline" else "cancelled")
        assert_whole(process.deltas("s"), result)


def test_acks_are_taken_after_shutdown_so_a_stream_with_a_window_ends_on_its_own() -> None:
    with pair() as process:
        id_ = process.request(
            "generate", {"model": "fake?tokens=40&delay_ms=1", "prompt": "x", "stream": "s", "window": 1}
        )
        process.notification("stream/delta", stream="s", seq=0)
        shutdown = process.request("shutdown")
        seq = 0
        while "result" not in (frame := answer_or_delta(process, id_, seq)):
            assert process.call("stream/ack", {"stream": "s", "seq": seq}) == {}
            seq += 1
        assert frame["result"]["finish_reason"] == "stop"
        assert process.result(shutdown) == {}


def test_a_stream_can_be_cancelled_by_its_name_after_shutdown() -> None:
    with pair() as process:
        id_ = process.request("generate", {"model": ENDLESS, "prompt": "x", "stream": "s", "window": 1})
        process.notification("stream/delta", stream="s", seq=0)
        shutdown = process.request("shutdown")
        assert process.call("stream/cancel", {"stream": "s"}) == {}
        assert process.result(id_)["finish_reason"] == "cancelled"
        assert process.result(shutdown) == {}


@pytest.mark.parametrize("paused", [True, False], ids=["paused", "not begun"])
def test_where_input_has_ended_no_window_keeps_a_stream_from_its_end(paused: bool) -> None:
    with pair() as process:
        load = "" if paused else "&load_ms=200"
        id_ = process.request(
            "generate", {"model": f"fake?tokens=100&delay_ms=1{load}", "prompt": "x", "stream": "s", "window": 1}
        )
        if paused:
            process.notification("stream/delta", stream="s", seq=0)
        process.close_stdin()
        result = process.result(id_)
        assert result["finish_reason"] == "stop"
        assert_whole(process.deltas("s"), result)
        assert process.exit_status() == 0


def test_an_ack_names_what_is_wrong_with_it() -> None:
    with pair() as process:
        assert process.error("stream/ack", {"stream": "s", "seq": 0})["data"]["kind"] == "unknown_stream"
        process.call("generate", {"model": "fake", "prompt": "x", "stream": "free"})
        unasked = process.error("stream/ack", {"stream": "free", "seq": 0})
        assert (unasked["data"]["kind"], unasked["data"]["name"]) == ("unsupported_parameter", "window")
        id_ = process.request("generate", {"model": ENDLESS, "prompt": "x", "stream": "s", "window": 1})
        process.notification("stream/delta", stream="s", seq=0)
        beyond = process.error("stream/ack", {"stream": "s", "seq": 1})
        assert (beyond["data"]["kind"], beyond["data"]["errors"][0]["loc"]) == ("invalid_params", ["seq"])
        process.call("stream/cancel", {"stream": "s"})
        last = process.result(id_)["last_seq"]
        assert process.call("stream/ack", {"stream": "s", "seq": last}) == {}  # late, and no mistake
        assert process.call("stream/ack", {"stream": "s", "seq": 0}) == {}


def test_what_is_sent_again_waits_for_the_window_too() -> None:
    with pair() as process:
        id_ = process.request("generate", {"model": ENDLESS, "prompt": "x", "stream": "s", "window": 1})
        first = process.notification("stream/delta", stream="s", seq=0)
        assert process.call("stream/subscribe", {"stream": "s"})["last_seq"] == 0
        process.call("ping")
        assert len(process.deltas("s")) == 1
        process.call("stream/ack", {"stream": "s", "seq": 0})
        again = process.notification("stream/delta", stream="s", seq=1)
        assert again["offset"] == 0
        assert again["text"].startswith(first["text"])
        process.call("stream/cancel", {"stream": "s"})
        process.result(id_)


# Deadlines.


@pytest.mark.parametrize(
    "model",
    ["fake?load_ms=100000", "fake?prefill_ms=100000", ENDLESS, "fake?tokens=10&hang_after=5"],
    ids=["loading", "prefilling", "decoding", "hanging"],
)
@pytest.mark.parametrize("stream", [{}, {"stream": "s"}], ids=["plain", "streamed"])
def test_a_deadline_ends_a_request_as_a_result_whatever_it_is_doing(model: str, stream: dict[str, str]) -> None:
    with pair() as process:
        result = process.call("generate", {"model": model, "prompt": "four", "deadline_s": 0.5, "seed": 7, **stream})
        assert (result["finish_reason"], result["seed"]) == ("deadline", 7)
        decoded = model == ENDLESS or "hang" in model
        assert (result["usage"]["completion_tokens"] > 0) == decoded
        assert len(result["text"]) == result["usage"]["completion_tokens"]
        assert result["usage"]["prompt_tokens"] == (0 if "load" in model else 4)
        if stream:
            assert "".join(delta["text"] for delta in process.deltas("s")) == result["text"]


def test_a_deadline_counts_in_the_queue() -> None:
    with pair() as process:
        model = "fake?tokens=10000&delay_ms=10000"
        running = [process.request("generate", {"model": model, "prompt": "x"}) for _ in range(100)]
        result = process.call("generate", {"model": model, "prompt": "x", "deadline_s": 0.3, "priority": "low"})
        assert (result["finish_reason"], result["usage"]["completion_tokens"]) == ("deadline", 0)
        assert not any(frame.get("id") in running for frame in process.frames)


def test_a_load_goes_on_when_the_request_that_began_it_is_over() -> None:
    with pair() as process:
        params = {"model": "fake?load_ms=1000", "prompt": "x"}
        assert process.call("generate", {**params, "deadline_s": 0.1})["finish_reason"] == "deadline"
        assert process.call("generate", params)["finish_reason"] == "stop"
        assert process.call("stats")["counters"]["loads"] == 1


def test_a_deadline_that_is_far_enough_changes_nothing() -> None:
    with pair() as process:
        for deadline_s in (3600, 1e300):
            result = process.call("generate", {"model": "fake", "prompt": "x", "deadline_s": deadline_s})
            assert result["finish_reason"] == "stop"


# Priorities.


def test_priorities_are_taken_and_others_are_refused_by_name() -> None:
    with pair() as process:
        for priority in ("critical", "high", "normal", "low", None):
            result = process.call("generate", {"model": "fake", "prompt": "x", "priority": priority})
            assert result["finish_reason"] == "stop"
        error = process.error("generate", {"model": "fake", "prompt": "x", "priority": "urgent"})
        assert (error["code"], error["data"]["errors"][0]["loc"]) == (-32602, ["priority"])


# Log-probabilities.


@pytest.mark.parametrize("alternatives", [0, 1, 20])
def test_log_probabilities_are_one_for_each_token_and_the_same_streamed(alternatives: int) -> None:
    with pair() as process:
        assert_logprobs_streamed(process, "fake?tokens=100", alternatives)


def test_log_probabilities_and_tokens_stay_in_step_before_a_stop_string() -> None:
    with pair() as process:
        params = {
            "model": "fake?text=one two STOP three",
            "prompt": "x",
            "stop": ["STOP"],
            "logprobs": 2,
            "stream": "s",
        }
        result = process.call("generate", params)
        assert (result["text"], result["stop_match"]) == ("one two ", "STOP")
        assert_logprobs(result, 2, greedy=False)
        assert_whole(process.deltas("s"), result)


def test_a_long_answer_with_all_alternatives_comes_whole_in_bounded_frames() -> None:
    with pair() as process:
        params = {"model": "fake?tokens=1000", "prompt": "x", "logprobs": 20, "stream": "s", "echo_text": False}
        process.stop_reading()
        id_ = process.request("generate", params)
        process.go_on_reading()
        result = process.result(id_)
        assert "logprobs" not in result
        deltas = process.deltas("s")
        assert sum(len(delta["logprobs"]) for delta in deltas) == 1000
        assert max(len(delta["tokens"]) for delta in deltas) <= 24


def test_log_probabilities_that_were_not_asked_for_are_absent() -> None:
    with pair() as process:
        result = process.call("generate", {"model": "fake", "prompt": "x", "stream": "s"})
        assert "logprobs" not in result
        assert all("logprobs" not in delta for delta in process.deltas("s"))

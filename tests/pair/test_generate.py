"""Streams of the fake engine, where timing is scripted: numbering, merging, cancelling, subscribing, stopping."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.pair import Pair, pair
from tests.support.streamed import assert_whole

SLOW = "fake?tokens=1000&delay_ms=20"


def started(process: Pair, stream: str | int, model: str = SLOW, **params: Any) -> Any:
    """A request after its first delta has come."""
    id_ = process.request("generate", {"model": model, "prompt": "x", "stream": stream, **params})
    process.notification("stream/delta", stream=stream)
    return id_


@pytest.mark.parametrize("framing", ["lines", "headers"])
@pytest.mark.parametrize("model", ["fake?tokens=300", "fake?tokens=300&wide=1&delay_ms=1", "fake?tokens=5000&wide=1"])
def test_deltas_are_numbered_without_gaps_and_add_up_to_the_answer(framing: str, model: str) -> None:
    with pair(framing=framing) as process:
        result = process.call("generate", {"model": f"{model}&context=100000", "prompt": "x", "stream": "s"})
        assert_whole(process.deltas("s"), result)
        assert result["finish_reason"] == "stop"


def test_the_answer_comes_after_the_last_delta_and_nothing_of_the_stream_follows() -> None:
    with pair() as process:
        id_ = process.request("generate", {"model": "fake?tokens=5000", "prompt": "x", "stream": "s"})
        process.result(id_)
        process.call("ping")
        last = max(n for n, frame in enumerate(process.frames) if frame.get("method") == "stream/delta")
        answer = next(n for n, frame in enumerate(process.frames) if frame.get("id") == id_)
        assert last < answer


def test_the_same_request_without_a_stream_gives_the_same_answer_in_one_piece() -> None:
    with pair() as process:
        params = {"model": "fake?tokens=200&wide=1", "prompt": "x", "seed": 5}
        alone = process.call("generate", params)
        streamed = process.call("generate", {**params, "stream": "s"})
        assert alone["text"] == streamed["text"]
        assert "stream" not in alone
        assert "last_seq" not in alone


def test_a_streamed_answer_without_echo_leaves_the_text_to_the_deltas() -> None:
    with pair() as process:
        result = process.call("generate", {"model": "fake", "prompt": "x", "stream": "s", "echo_text": False})
        assert "text" not in result
        assert "tokens" not in result
        assert len("".join(delta["text"] for delta in process.deltas("s")).encode()) == 32


def test_usage_and_seed_tell_what_happened() -> None:
    with pair() as process:
        result = process.call("generate", {"model": "fake?tokens=12", "prompt": "four", "seed": 99})
        assert result["usage"] == {
            "prompt_tokens": 4,
            "cached_tokens": 0,
            "cached_by_tier": {"ram": 0, "disk": 0},
            "completion_tokens": 12,
            "uncached_because": "a fake model has no keys and values",
        }
        assert result["seed"] == 99
        unseeded = process.call("generate", {"model": "fake?tokens=12", "prompt": "four"})
        again = process.call("generate", {"model": "fake?tokens=12", "prompt": "four", "seed": unseeded["seed"]})
        assert again["text"] == unseeded["text"]


def test_max_tokens_ends_an_answer_as_length() -> None:
    with pair() as process:
        result = process.call("generate", {"model": "fake?text=abcdef", "prompt": "x", "max_tokens": 3})
        assert (result["text"], result["finish_reason"]) == ("abc", "length")


def test_a_character_cut_off_by_max_tokens_comes_out_as_a_replacement_only_at_the_end() -> None:
    with pair() as process:
        result = process.call(
            "generate", {"model": "fake?text=a%C3%A9%C3%A9", "prompt": "x", "max_tokens": 4, "stream": "s"}
        )
        assert result["text"] == "aé\ufffd"
        assert_whole(process.deltas("s"), result)


@pytest.mark.parametrize("delay", ["", "&delay_ms=2"])
def test_a_stop_string_across_deltas_ends_the_answer_before_it(delay: str) -> None:
    with pair() as process:
        params = {
            "model": f"fake?text=one two STOP three{delay}",
            "prompt": "x",
            "stop": ["STOP", "never"],
            "stream": "s",
        }
        result = process.call("generate", params)
        assert (result["text"], result["finish_reason"], result["stop_match"]) == ("one two ", "stop", "STOP")
        assert_whole(process.deltas("s"), result)


def test_a_beginning_of_a_stop_string_that_comes_to_nothing_is_sent_after_all() -> None:
    with pair() as process:
        params = {"model": "fake?text=one STO", "prompt": "x", "stop": ["STOP"], "stream": "s"}
        result = process.call("generate", params)
        assert (result["text"], result["finish_reason"]) == ("one STO", "stop")
        assert "stop_match" not in result
        assert_whole(process.deltas("s"), result)


def test_stop_tokens_end_an_answer_and_ignore_eos_goes_on() -> None:
    with pair() as process:
        stopped = process.call("generate", {"model": "fake?text=abc", "prompt": "x", "stop_tokens": [ord("c")]})
        assert (stopped["text"], stopped["finish_reason"]) == ("ab", "stop")
        endless = process.call(
            "generate", {"model": "fake?text=abc", "prompt": "x", "ignore_eos": True, "max_tokens": 9}
        )
        assert (endless["text"], endless["finish_reason"]) == ("abc abc a", "length")


@pytest.mark.parametrize("how", ["by id", "by stream", "by notification of a string id"])
def test_cancel_ends_the_request_with_exactly_one_answer(how: str) -> None:
    with pair() as process:
        id_ = started(process, "s")
        if how == "by id":
            process.notify("$/cancelRequest", {"id": id_})
        elif how == "by stream":
            assert process.call("stream/cancel", {"stream": "s"}) == {}
        else:
            id_ = process.request("generate", {"model": SLOW, "prompt": "x", "stream": "t"}, "named")
            process.notification("stream/delta", stream="t")
            process.notify("$/cancelRequest", {"id": "named"})
        result = process.result(id_)
        assert result["finish_reason"] == "cancelled"
        assert result["text"]
        assert 0 < result["usage"]["completion_tokens"] < 1000
        process.notify("$/cancelRequest", {"id": id_})  # idempotent
        process.call("stream/cancel", {"stream": result["stream"]})
        process.call("ping")
        assert sum(frame.get("id") == id_ for frame in process.frames) == 1


def test_a_cancel_by_name_finds_a_request_that_came_in_the_same_write() -> None:
    with pair() as process:
        params = {"model": SLOW, "prompt": "x", "stream": "s"}
        messages = [
            {"jsonrpc": "2.0", "id": "first", "method": "generate", "params": params},
            {"jsonrpc": "2.0", "id": "cancel", "method": "stream/cancel", "params": {"stream": "s"}},
            {"jsonrpc": "2.0", "id": "second", "method": "generate", "params": params},
        ]
        process.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        assert process.result("cancel") == {}
        assert process.answer("first")["error"]["data"]["kind"] == "cancelled"
        assert process.answer("second")["error"]["data"]["kind"] == "duplicate_stream"
        assert process.call("generate", {**params, "model": "fake?tokens=3"})["finish_reason"] == "stop"


def test_streams_run_side_by_side_and_keep_apart() -> None:
    with pair() as process:
        ids = [
            process.request("generate", {"model": "fake?tokens=200&delay_ms=1", "prompt": str(n), "stream": n})
            for n in range(16)
        ]
        for number, id_ in enumerate(ids):
            result = process.result(id_)
            assert_whole(process.deltas(number), result)
            assert result["usage"]["completion_tokens"] == 200


def test_subscribing_late_brings_one_merged_delta_and_then_live_ones() -> None:
    with pair() as process:
        id_ = started(process, "s", "fake?tokens=400&delay_ms=5")
        process.notification("stream/delta", stream="s", seq=3)
        subscribed = process.call("stream/subscribe", {"stream": "s", "after_seq": 1})
        assert "finish_reason" not in subscribed
        assert subscribed["last_seq"] >= 3
        result = process.result(id_)
        deltas = process.deltas("s")
        assert [delta["seq"] for delta in deltas] == list(range(len(deltas)))
        back = next(delta for n, delta in enumerate(deltas) if n and delta["offset"] < deltas[n - 1]["offset"])
        assert back["offset"] == deltas[2]["offset"]
        assert (
            deltas[0]["text"] + deltas[1]["text"] + "".join(d["text"] for d in deltas[back["seq"] :]) == result["text"]
        )


def test_subscribing_after_the_end_brings_the_text_again() -> None:
    with pair() as process:
        result = process.call("generate", {"model": "fake?tokens=50", "prompt": "x", "stream": "s"})
        seen = len(process.deltas("s"))
        answer = process.call("stream/subscribe", {"stream": "s"})
        assert (answer["finish_reason"], answer["last_seq"]) == ("stop", seen - 1)
        again = process.notification("stream/delta", stream="s", seq=seen)
        assert (again["offset"], again["text"]) == (0, result["text"])


def test_a_stream_name_is_free_again_after_its_answer() -> None:
    with pair() as process:
        params = {"model": "fake", "prompt": "x", "stream": "s"}
        assert process.call("generate", params)["finish_reason"] == "stop"
        assert process.call("generate", params)["finish_reason"] == "stop"


def test_min_interval_merges_deltas() -> None:
    with pair() as process:
        params = {"model": "fake?tokens=100&delay_ms=1", "prompt": "x", "stream": "s", "min_interval_ms": 100_000}
        result = process.call("generate", params)
        assert_whole(process.deltas("s"), result)
        assert len(process.deltas("s")) == 2  # the first at once, the rest with the end


def test_an_evicted_model_is_loaded_again_by_the_request_that_needs_it() -> None:
    first, second = "fake?memory_bytes=600000&tokens=3", "fake?memory_bytes=600000&tokens=4"
    with pair("--memory-limit-bytes", "1000000") as process:
        process.call("load", {"model": first})
        process.call("load", {"model": second})  # evicts the first
        assert [card["model"] for card in process.call("models")["models"]] == [second]
        assert process.call("generate", {"model": first, "prompt": "x"})["usage"]["completion_tokens"] == 3


def test_progress_is_reported_to_the_request_that_asked() -> None:
    with pair() as process:
        card = process.call("load", {"model": "fake?load_steps=3", "progress": 7})
        assert card["state"] == "ready"
        steps = [frame["params"] for frame in process.frames if frame.get("method") == "progress"]
        assert len(steps) == 3
        assert all(step["token"] == 7 and step["done_bytes"] <= step["total_bytes"] for step in steps)
        assert process.call("load", {"model": "fake?load_steps=3"})["load_s"] == 0


def test_text_methods_agree_with_each_other() -> None:
    text = "héllo 😀"
    with pair() as process:
        tokens = process.call("tokenize", {"model": "fake", "text": text, "pieces": True})
        assert tokens["tokens"] == list(text.encode())
        assert tokens["count"] == len(tokens["pieces"]) == len(text.encode())
        assert process.call("detokenize", {"model": "fake", "tokens": tokens["tokens"]})["text"] == text
        rendered = process.call("render", {"model": "fake", "messages": [{"role": "user", "content": text}]})
        assert text in rendered["text"]
        assert rendered["tokens"] == list(rendered["text"].encode())

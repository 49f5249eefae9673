"""Reasoning and tool calls of a chat, streamed in channels of their own: whole, cut off, and watched in every way."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.host import Frame
from tests.support.pair import Pair, pair
from tests.support.streamed import assert_same, assert_whole

PLACES = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = [
    {"type": "function", "function": {"name": "forecast", "description": "", "parameters": PLACES}},
    {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}},
]
CHAT = [{"role": "user", "content": "How is the weather in Bern?"}]
REASONING = "<think>\nBern; three days.\n</think>\n\n"
CALL = '<tool_call>\n{"name": "forecast", "arguments": {"city": "Bern", "days": 3}}\n</tool_call>'
SECOND = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
WHOLE = f"{REASONING}I shall look.\n{CALL}\n{SECOND}"
CUT_AT = WHOLE.index('"Bern"') + 3


def model(text: str = WHOLE, **options: Any) -> str:
    return "fake?" + "&".join(f"{name}={quote(str(value))}" for name, value in {"text": text, **options}.items())


def params(text: str = WHOLE, *, options: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"model": model(text, **(options or {})), "messages": CHAT, "tools": TOOLS, "seed": 1, **more}


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Pair]:
    with pair() as process:
        yield process


def calls_of(result: Frame) -> list[tuple[str, Any]]:
    return [(call["name"], json.loads(call["arguments"])) for call in result.get("tool_calls", [])]


BOTH = [("forecast", {"city": "Bern", "days": 3}), ("look", {})]


def test_reasoning_and_calls_are_data_and_no_marker_is_in_the_text(sidecar: Pair) -> None:
    result = sidecar.call("generate", params())
    assert (result["text"], result["reasoning"].strip()) == ("I shall look.", "Bern; three days.")
    assert calls_of(result) == BOTH
    assert result["finish_reason"] == "tool_calls"
    assert len({call["id"] for call in result["tool_calls"]}) == 2
    assert "tool_call_error" not in result
    assert "warnings" not in result
    usage = result["usage"]
    assert 0 < usage["reasoning_tokens"] < len(REASONING)
    assert usage["completion_tokens"] == len(WHOLE)


def test_the_deltas_of_all_channels_add_up_to_the_same_answer(sidecar: Pair) -> None:
    alone = sidecar.call("generate", params())
    streamed = sidecar.call("generate", params(options={"delay_ms": 1}, stream="s"))
    assert_whole(sidecar.deltas("s"), streamed)
    assert_same(streamed, alone)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qwen3_coder", "<tool_call>\n<function=forecast>\n<parameter=city>\nBern\n</parameter>\n<parameter=days>\n3\n"
         "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=look>\n</function>\n</tool_call>"),
        ("mistral", '[TOOL_CALLS][{"name": "forecast", "arguments": {"city": "Bern", "days": 3}}, '
         '{"name": "look", "arguments": {}}]'),
        ("lfm2", '<|tool_call_start|>[forecast(city="Bern", days=3), look()]<|tool_call_end|>'),
        ("gemma4", '<|tool_call>call:forecast{city:<|"|>Bern<|"|>,days:3}<tool_call|>'
         '<|tool_call>call:look{}<tool_call|>'),
    ],
)  # fmt: skip
def test_a_format_that_the_request_names_is_read_instead_of_the_models(sidecar: Pair, name: str, text: str) -> None:
    result = sidecar.call("generate", params(text, tool_format=name))
    assert (calls_of(result), result["text"], result["finish_reason"]) == (BOTH, "", "tool_calls")


def test_harmony_sorts_its_channels_without_tools_too(sidecar: Pair) -> None:
    text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Rain."
    result = sidecar.call("generate", {**params(text, tool_format="harmony"), "tools": None})
    assert (result["reasoning"], result["text"], result["finish_reason"]) == ("Hm.", "Rain.", "stop")


def test_a_format_that_is_not_known_is_refused_with_those_that_are(sidecar: Pair) -> None:
    error = sidecar.error("generate", params(tool_format="morse"))
    [fault] = error["data"]["errors"]
    assert fault["loc"] == ["tool_format"]
    assert "'morse'" in fault["msg"]
    assert "hermes" in fault["msg"]


@pytest.mark.parametrize("more", [{"output": "raw"}, {"prompt": "x", "messages": None, "tools": None}])
def test_raw_output_is_the_text_as_the_model_wrote_it(sidecar: Pair, more: Frame) -> None:
    result = sidecar.call("generate", params(**more))
    assert (result["text"], result["finish_reason"]) == (WHOLE, "stop")
    assert not {"reasoning", "tool_calls"} & result.keys()
    assert "reasoning_tokens" not in result["usage"]


@pytest.mark.parametrize("more", [{"tools": None}, {"tools": []}])
def test_without_tools_no_calls_are_looked_for(sidecar: Pair, more: Frame) -> None:
    result = sidecar.call("generate", params(f"{REASONING}{CALL}", **more))
    assert (result["text"], result["finish_reason"]) == (CALL, "stop")
    assert result["reasoning"].strip() == "Bern; three days."


def test_the_card_tells_what_is_looked_for(sidecar: Pair) -> None:
    card = sidecar.call("load", {"model": "fake?tokens=1"})
    assert (card["tool_format"], card["reasoning"]) == ("hermes", True)
    [listed] = [each for each in sidecar.call("models")["models"] if each["model"] == "fake?tokens=1"]
    assert (listed["tool_format"], listed["reasoning"]) == ("hermes", True)


# Endings.


def assert_cut(result: Frame, reason: str) -> None:
    assert result["finish_reason"] == reason
    assert "tool_calls" not in result
    [call] = result["incomplete_tool_calls"]
    assert (call["index"], call["name"]) == (0, "forecast")
    assert call["text"]
    assert CALL.startswith(call["text"].lstrip())
    assert result["text"] == "I shall look."


def test_a_call_that_max_tokens_cuts_off_is_told_as_it_stands(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(max_tokens=CUT_AT, stream="cut"))
    assert_cut(result, "length")
    assert_whole(sidecar.deltas("cut"), result)
    assert WHOLE[:CUT_AT].endswith(result["incomplete_tool_calls"][0]["text"])


def test_a_whole_call_before_the_cut_is_whole(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(max_tokens=len(WHOLE) - 20))
    assert result["finish_reason"] == "length"
    assert calls_of(result) == BOTH[:1]
    assert len(result["incomplete_tool_calls"]) == 1


def test_a_stop_string_in_a_call_cuts_it_off_and_is_told(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(stop=["ern"]))
    assert "reasoning" in result  # the stop string is looked for in the answer as the model writes it
    assert result["finish_reason"] == "stop"
    assert result["stop_match"] == "ern"


def test_a_stop_string_behind_whole_calls_leaves_them_whole(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(stop=['\n<tool_call>\n{"name": "look"']))
    assert (result["finish_reason"], calls_of(result)) == ("stop", BOTH[:1])
    assert "incomplete_tool_calls" not in result


def test_a_turn_that_the_model_ends_within_a_call_is_no_call(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(WHOLE[:CUT_AT]))
    assert_cut(result, "stop")
    assert result["tool_call_error"]


def test_a_model_that_fails_within_a_call_leaves_what_there_was(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(options={"fail_after": CUT_AT}, stream="fails"))
    assert_cut(result, "error")
    assert_whole(sidecar.deltas("fails"), result)


ENDLESS = {"delay_ms": 20}


def in_the_call(sidecar: Pair, stream: str, **more: Any) -> Any:
    """A request whose call has begun, and goes on slowly."""
    slow = WHOLE[: WHOLE.index('"Bern"') + 1] + "x" * 2000
    id_ = sidecar.request("generate", params(slow, options={**ENDLESS, "prefill_ms": 0}, stream=stream, **more))
    sidecar.wait_for(
        lambda frame: (
            frame.get("method") == "stream/delta"
            and frame["params"]["stream"] == stream
            and "tool_calls" in frame["params"]
        )
    )
    return id_


@pytest.mark.parametrize("way", ["cancel", "unload"])
def test_a_call_that_its_host_ends_is_told_as_it_stands(sidecar: Pair, way: str) -> None:
    id_ = in_the_call(sidecar, way)
    if way == "cancel":
        sidecar.call("stream/cancel", {"stream": way})
    else:
        [running] = [card["model"] for card in sidecar.call("models")["models"] if card["streams"]]
        sidecar.call("unload", {"model": running, "force": True})
    result = sidecar.result(id_)
    assert result["finish_reason"] == ("cancelled" if way == "cancel" else "error")
    [call] = result["incomplete_tool_calls"]
    assert (call["index"], call["name"]) == (0, "forecast")
    assert_whole(sidecar.deltas(way), result)


def test_a_deadline_within_a_call_is_told_with_the_call_as_it_stands(sidecar: Pair) -> None:
    start = WHOLE[: WHOLE.index('"Bern"') + 1]
    slow = params(start + "x" * 2000, options={"delay_ms": 2}, stream="late", deadline_s=1.5)
    result = sidecar.call("generate", slow)
    assert result["finish_reason"] == "deadline"
    assert result["incomplete_tool_calls"][0]["name"] == "forecast"
    assert_whole(sidecar.deltas("late"), result)


# Engines that die.

PLACES_TO_DIE = {"reasoning": WHOLE.index("three"), "marker": WHOLE.index("tool_call>") + 4, "call": CUT_AT}


@pytest.mark.parametrize("at", PLACES_TO_DIE.values(), ids=PLACES_TO_DIE)
def test_an_engine_that_dies_costs_no_channel_anything(at: int) -> None:
    with pair() as process:
        undisturbed = process.call("generate", params())
        result = process.call("generate", params(options={"crash_after": at, "delay_ms": 1}, stream="s"))
        assert process.notification("stream/interrupted", stream="s")
        assert_whole(process.deltas("s"), result)
        assert_same(result, undisturbed)
        assert result["usage"]["reasoning_tokens"] == undisturbed["usage"]["reasoning_tokens"]


def test_an_engine_that_is_killed_within_a_call_costs_it_nothing() -> None:
    with pair() as process:
        process.initialize()
        undisturbed = process.call("generate", params())
        id_ = process.request("generate", params(options={"delay_ms": 10}, stream="s", window=1))
        seq = 0
        while "tool_calls" not in process.notification("stream/delta", stream="s", seq=seq):
            process.notify("stream/ack", {"stream": "s", "seq": seq})
            seq += 1
        process.end_engine(signal.SIGKILL)
        process.notify("stream/ack", {"stream": "s", "seq": seq})
        while "result" not in (frame := process.wait_for(next_of(id_, seq := seq + 1))):
            process.notify("stream/ack", {"stream": "s", "seq": seq})
        assert_whole(process.deltas("s"), frame["result"])
        assert_same(frame["result"], undisturbed)


def next_of(id_: Any, seq: int) -> Any:
    return lambda frame: frame.get("id") == id_ or frame.get("params", {}).get("seq") == seq


def test_a_call_that_ends_every_engine_is_poison_and_told_as_far_as_it_came() -> None:
    with pair() as process:
        result = process.call("generate", params(options={"poison_after": CUT_AT, "delay_ms": 1}, stream="s"))
        assert result["error"]["data"]["kind"] == "poison_request"
        assert_cut(result, "error")
        assert_whole(process.deltas("s"), result)


# Streams watched in every way.


def test_channels_are_read_again_from_the_start(sidecar: Pair) -> None:
    first = sidecar.call("generate", params(stream="again"))
    seen = len(sidecar.deltas("again"))
    told = sidecar.call("stream/subscribe", {"stream": "again"})
    assert (told["last_seq"], told["finish_reason"]) == (seen - 1, "tool_calls")
    sidecar.call("ping")
    again = [{**delta, "seq": at} for at, delta in enumerate(sidecar.deltas("again")[seen:])]
    assert_whole(again, {**first, "last_seq": len(again) - 1})


def test_each_delta_of_a_window_waits_for_its_ack_whatever_its_channel(sidecar: Pair) -> None:
    plain = sidecar.call("generate", params())
    id_ = sidecar.request("generate", params(options={"delay_ms": 1}, stream="window", window=1))
    seq = 0
    while "result" not in (frame := sidecar.wait_for(next_of_stream(id_, "window", seq))):
        sidecar.notify("stream/ack", {"stream": "window", "seq": seq})
        seq += 1
    assert_whole(sidecar.deltas("window"), frame["result"])
    assert_same(frame["result"], plain)


def next_of_stream(id_: Any, stream: str, seq: int) -> Any:
    wanted = {"stream": stream, "seq": seq}
    return lambda frame: frame.get("id") == id_ or wanted.items() <= frame.get("params", {}).items()


def test_an_answer_without_echo_leaves_reasoning_to_the_deltas_and_has_the_calls(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(stream="silent", echo_text=False))
    assert not {"text", "tokens", "reasoning"} & result.keys()
    assert calls_of(result) == BOTH
    deltas = sidecar.deltas("silent")
    assert "".join(delta.get("reasoning", "") for delta in deltas).strip() == "Bern; three days."


def test_fewer_deltas_of_an_interval_have_all_of_each_channel(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(options={"delay_ms": 1}, stream="seldom", min_interval_ms=100))
    deltas = sidecar.deltas("seldom")
    assert_whole(deltas, result)


def test_log_probabilities_are_of_all_tokens_whatever_became_of_them(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(stream="likely", logprobs=1))
    assert [entry["token"] for entry in result["logprobs"]] == result["tokens"]
    deltas = sidecar.deltas("likely")
    assert_whole(deltas, result)
    assert [entry for delta in deltas for entry in delta["logprobs"]] == result["logprobs"]


# The next turn.


@pytest.mark.parametrize("shape", ["ours", "openai"])
def test_an_answer_can_be_given_back_as_it_came(sidecar: Pair, shape: str) -> None:
    result = sidecar.call("generate", params())
    calls = [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        if shape == "openai"
        else call
        for call in result["tool_calls"]
    ]
    turn = {
        "role": "assistant",
        "content": result["text"],
        "reasoning_content": result["reasoning"],
        "tool_calls": calls,
    }
    told = {"role": "tool", "tool_call_id": calls[0]["id"], "content": "Rain."}
    rendered = sidecar.call("render", {"model": "fake", "messages": [*CHAT, turn, told], "tools": TOOLS})
    assert "warnings" not in rendered
    assert CALL in rendered["text"]
    assert "Bern; three days." in rendered["text"]

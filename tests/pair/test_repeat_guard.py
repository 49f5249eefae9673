"""An answer with a repeat guard ends with its loop, at the same token whatever else is asked for or happens."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.pair import Pair, pair
from tests.support.streamed import answer_or_delta, assert_same, assert_whole

LOOP = "and so on, "
TEXT = f"It goes on, {LOOP * 40}"
GUARD = 36
END = len("It goes") + GUARD  # " on, " is in the loop already


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Pair]:
    with pair() as process:
        yield process


def params(text: str = TEXT, options: str = "", **more: Any) -> dict[str, Any]:
    return {"model": f"fake?text={quote(text)}{options}", "prompt": "x", "repeat_guard": GUARD, **more}


def test_a_loop_ends_the_answer_with_a_reason_of_its_own(sidecar: Pair) -> None:
    result = sidecar.call("generate", params())
    assert result["finish_reason"] == "repeated"
    assert result["text"] == TEXT[:END]
    assert bytes(result["tokens"]).decode() == TEXT[:END]
    assert result["usage"]["completion_tokens"] == END
    assert "stop_match" not in result


def test_an_answer_without_a_loop_is_left_alone(sidecar: Pair) -> None:
    text = "It goes on, and so on, and so on, to its end."
    for guard in (GUARD, None):
        result = sidecar.call("generate", params(text, repeat_guard=guard))
        assert (result["text"], result["finish_reason"]) == (text, "stop")
    assert sidecar.call("generate", params(repeat_guard=None, max_tokens=200))["finish_reason"] == "length"


@pytest.mark.parametrize("stop", [["goes"], ["so on, and so"], [LOOP * 2]])
def test_a_stop_string_that_is_complete_first_wins(sidecar: Pair, stop: list[str]) -> None:
    result = sidecar.call("generate", params(stop=stop))
    assert (result["finish_reason"], result["stop_match"]) == ("stop", stop[0])
    assert result["text"] == TEXT.partition(stop[0])[0]


def test_text_that_a_stop_string_may_begin_with_is_given_out_at_the_end(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(stop=[f"{TEXT[END - 8 : END]}!"]))
    assert (result["finish_reason"], result["text"]) == ("repeated", TEXT[:END])


def test_deltas_windows_and_log_probabilities_end_with_the_loop(sidecar: Pair) -> None:
    plain = sidecar.call("generate", params())
    id_ = sidecar.request("generate", params(logprobs=1, stream="w", window=1))
    seq = 0
    while "result" not in (frame := answer_or_delta(sidecar, id_, seq)):
        sidecar.call("stream/ack", {"stream": "w", "seq": seq})
        seq += 1
    result = frame["result"]
    assert_whole(sidecar.deltas("w"), result)
    assert_same(result, plain)
    assert [entry["token"] for entry in result["logprobs"]] == result["tokens"]
    told = sidecar.call("stream/subscribe", {"stream": "w", "after_seq": 0})
    assert told["finish_reason"] == "repeated"


def test_a_form_that_a_loop_cuts_off_is_not_complete(sidecar: Pair) -> None:
    form = {"type": "json_schema", "schema": {"type": "array", "items": {"type": "integer"}}}
    result = sidecar.call("generate", params("[1, 2, 3" + ", 7" * 90, response_format=form))
    assert (result["finish_reason"], result["response_format"]["complete"]) == ("repeated", False)
    assert result["text"].startswith("[1, 2, 3, 7")


def test_reasoning_and_calls_are_guarded_and_what_is_cut_off_is_told(sidecar: Pair) -> None:
    chat: dict[str, Any] = {"prompt": None, "messages": [{"role": "user", "content": "x"}]}
    result = sidecar.call("generate", params(f"<think>{TEXT}", **chat))
    assert (result["finish_reason"], result["text"]) == ("repeated", "")
    assert result["reasoning"] == TEXT[:END]
    tool = {"name": "look", "parameters": {"type": "object"}}
    call = f'<tool_call>\n{{"name": "look", "arguments": {{"at": "{TEXT}'
    result = sidecar.call("generate", params(call, **chat, tools=[tool]))
    assert result["finish_reason"] == "repeated"
    assert "tool_calls" not in result
    assert result["incomplete_tool_calls"][0]["text"].endswith("and so on")


def test_an_engine_that_dies_in_a_loop_changes_nothing_of_its_end(sidecar: Pair) -> None:
    undisturbed = sidecar.call("generate", params())
    slow = params(options="&delay_ms=20", stream="k")
    running = sidecar.request("generate", slow)
    sidecar.notification("stream/delta", stream="k", seq=END - 12)
    sidecar.end_engine(signal.SIGKILL)
    result = sidecar.result(running)
    assert_same(result, undisturbed)
    assert result["finish_reason"] == "repeated"
    assert_whole(sidecar.deltas("k"), result)


def test_the_engine_works_on_nothing_behind_the_loop(sidecar: Pair) -> None:
    endless = {"model": "fake?text=" + quote(LOOP), "prompt": "x", "ignore_eos": True, "repeat_guard": GUARD}
    result = sidecar.call("generate", endless)
    assert result["finish_reason"] == "repeated"
    while (queue := sidecar.call("stats")["queue"])["running"] or queue["waiting"]:
        pass


@pytest.mark.parametrize("guard", [0, 2, 4097, 3.5, "many"])
def test_a_guard_beyond_its_bounds_is_refused_by_name(sidecar: Pair, guard: Any) -> None:
    [fault] = sidecar.error("generate", params(repeat_guard=guard))["data"]["errors"]
    assert fault["loc"] == ["repeat_guard"]

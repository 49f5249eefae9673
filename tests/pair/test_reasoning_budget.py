"""Reasoning of a chat ends at its budget, counted exactly, whatever else is asked for or happens meanwhile."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.host import Frame
from tests.support.pair import Pair, pair
from tests.support.streamed import answer_or_delta, assert_same, assert_whole

THOUGHT = "one two three"
TEXT = f"<think>{THOUGHT}</think>\n\nfour"
END = "</think>"


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Pair]:
    with pair() as process:
        yield process


def params(budget: int | None, text: str = TEXT, options: str = "", **more: Any) -> dict[str, Any]:
    chat = [{"role": "user", "content": "x"}]
    return {"model": f"fake?text={quote(text)}{options}", "messages": chat, "reasoning_budget": budget, **more}


def counted(result: Frame) -> int:
    return int(result["usage"]["reasoning_tokens"])


@pytest.mark.parametrize("budget", [None, len(THOUGHT), 10_000])
def test_reasoning_within_its_budget_is_as_without_one(sidecar: Pair, budget: int | None) -> None:
    result = sidecar.call("generate", params(budget))
    assert (result["text"], result["reasoning"], counted(result)) == ("four", THOUGHT, len(THOUGHT))
    assert bytes(result["tokens"]).decode() == TEXT
    assert result["finish_reason"] == "stop"


@pytest.mark.parametrize("budget", range(len(THOUGHT)))
def test_reasoning_is_as_long_as_its_budget_and_the_markers_are_in_no_text(sidecar: Pair, budget: int) -> None:
    result = sidecar.call("generate", params(budget))
    begun = f"<think>{THOUGHT[:budget]}{END}"
    assert bytes(result["tokens"]).decode() == begun + TEXT[len(begun) :]
    assert counted(result) == budget
    assert result.get("reasoning", "") == THOUGHT[:budget]
    assert "response_format" not in result


def test_an_answer_without_reasoning_is_left_alone(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(0, "four"))
    assert (result["text"], counted(result)) == ("four", 0)


def test_a_form_follows_reasoning_that_its_budget_ended(sidecar: Pair) -> None:
    form = {"type": "json_schema", "schema": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}}
    result = sidecar.call("generate", params(4, response_format=form))
    assert (result["reasoning"], counted(result)) == ("one ", 4)
    assert isinstance(json.loads(result["text"]), list)
    assert result["response_format"]["complete"]


def test_a_budget_changes_nothing_about_windows_and_log_probabilities(sidecar: Pair) -> None:
    plain = sidecar.call("generate", params(6))
    id_ = sidecar.request("generate", params(6, logprobs=1, stream="w", window=1))
    seq = 0
    while "result" not in (frame := answer_or_delta(sidecar, id_, seq)):
        sidecar.call("stream/ack", {"stream": "w", "seq": seq})
        seq += 1
    result = frame["result"]
    assert_whole(sidecar.deltas("w"), result)
    assert_same(result, plain)
    assert [entry["token"] for entry in result["logprobs"]] == result["tokens"]


@pytest.mark.parametrize("after", [2, 7 + 3, 7 + 5 + 4, 7 + 5 + len(END) + 2])
def test_a_budget_is_kept_to_over_the_death_of_the_engine(sidecar: Pair, after: int) -> None:
    plain = sidecar.call("generate", params(5, options="&delay_ms=2"))
    stream = f"k{after}"
    running = sidecar.request("generate", params(5, options="&delay_ms=2", stream=stream))
    while len(said(heard := sidecar.deltas(stream))) < after:
        sidecar.notification("stream/delta", stream=stream, seq=len(heard))
    sidecar.signal_engine(signal.SIGKILL)
    result = sidecar.result(running)
    assert_same(result, plain)
    assert_whole(sidecar.deltas(stream), result)
    assert counted(result) == 5


def said(deltas: list[Frame]) -> list[int]:
    return [token for delta in deltas for token in delta["tokens"]]


def test_a_budget_without_parsed_output_is_refused_by_name(sidecar: Pair) -> None:
    error = sidecar.error("generate", params(5, output="raw"))
    assert error["data"]["errors"][0]["loc"] == ["reasoning_budget"]

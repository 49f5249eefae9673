"""Answers whose tokens are proposed and verified, as a host sees them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.pair import Pair, pair
from tests.support.streamed import assert_logprobs, assert_same, assert_whole

REFRAIN = "row, row, row your boat, gently down the stream; " * 4
LOOKUP: dict[str, Any] = {"speculation": {"ngram": True}}


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Pair]:
    with pair() as process:
        yield process


def params(model: str = f"fake?text={REFRAIN}", **more: Any) -> dict[str, Any]:
    return {"model": model, "prompt": "sing", "seed": 3, **more}


def test_the_answer_is_the_one_without_in_fewer_passes(sidecar: Pair) -> None:
    plain = sidecar.call("generate", params(speculation=False))
    result = sidecar.call("generate", params(**LOOKUP, stream="s"))
    assert_same(result, plain)
    assert_whole(sidecar.deltas("s"), result)
    told = result["usage"]["speculation"]
    assert 0 < told["accepted"] <= told["proposed"]
    # The last pass may give the end alone.
    assert result["usage"]["completion_tokens"] - told["accepted"] - told["passes"] in (-1, 0)
    assert told["passes"] < result["usage"]["completion_tokens"] / 3
    assert plain["usage"].get("speculation", {"proposed": 0})["proposed"] == 0


@pytest.mark.parametrize("most", [1, 5])
def test_no_more_are_proposed_at_once_than_the_host_allows(sidecar: Pair, most: int) -> None:
    result = sidecar.call("generate", params(speculation={"max_tokens": most}))
    told = result["usage"]["speculation"]
    assert told["proposed"] <= most * told["passes"]
    assert result["usage"]["completion_tokens"] <= (most + 1) * told["passes"]


def test_what_ends_an_answer_ends_it_among_proposals_too(sidecar: Pair) -> None:
    for ending in ({"max_tokens": 101}, {"stop": ["down the"]}, {"stop_tokens": [ord(";")]}):
        plain, result = (sidecar.call("generate", params(**ending, **more)) for more in ({}, LOOKUP))
        assert_same(result, plain)


def test_log_probabilities_are_told_of_each_token(sidecar: Pair) -> None:
    assert_logprobs(sidecar.call("generate", params(**LOOKUP, logprobs=2)), 2, greedy=True)


def test_an_answer_goes_on_behind_its_proposals_where_the_engine_died(sidecar: Pair) -> None:
    slow = f"fake?text={REFRAIN}&delay_ms=10"
    plain = sidecar.call("generate", params(slow))
    id_ = sidecar.request("generate", params(slow, **LOOKUP, stream="k"))
    sidecar.wait_for(lambda frame: frame.get("method") == "stream/delta" and frame["params"]["offset"] > 60)
    sidecar.end_engine(signal.SIGKILL)
    result = sidecar.result(id_)
    assert_same(result, plain)
    assert_whole(sidecar.deltas("k"), result)
    assert result["usage"]["speculation"]["accepted"] > 0


def test_a_model_that_cannot_draft_is_refused_by_name(sidecar: Pair) -> None:
    assert sidecar.call("check_draft", {"model": "fake?text=a", "draft": "fake?text=b"})["compatible"]
    sidecar.call("load", {"model": "fake?text=b"})
    error = sidecar.error("generate", params(speculation={"draft": "fake?text=b"}))
    assert (error["data"]["kind"], error["data"]["name"]) == ("unsupported_parameter", "speculation.draft")

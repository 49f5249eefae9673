"""The embedded model's reasoning ends at its budget: the same alone, in a batch and after the engine's death."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.host import Frame
from tests.support.sidecar import Sidecar, sidecar
from tests.support.streamed import assert_same, assert_whole

BUDGETS = [0, 1, 7, 10_000]
SAMPLINGS: list[Frame] = [
    {},
    {"temperature": 0.8, "seed": 3, "top_k": 20, "repetition_penalty": 1.1},
    {"temperature": 1.0, "seed": 11, "speculation": {"ngram": True}, "logprobs": 1},
]
YES_OR_NO = {"type": "choice", "choices": ["yes", "no", "who knows"]}


@pytest.fixture(scope="module", params=["exact", "fast"])
def process(request: pytest.FixtureRequest) -> Iterator[Sidecar]:
    with sidecar("--numerics", request.param) as running:
        running.call("load", {"model": "pocket"})
        yield running


def params(budget: int | None, sampling: Frame, **more: Any) -> Frame:
    return {
        "model": "pocket",
        "messages": [{"role": "user", "content": "Count to five, then say what you think of it."}],
        "template_args": {"enable_thinking": True},
        "max_tokens": 60,
        "reasoning_budget": budget,
        **sampling,
        **more,
    }


def alone(process: Sidecar, asked: Frame) -> Frame:
    process.call("cache/clear")
    result: Frame = process.call("generate", asked)
    return result


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_reasoning_has_as_many_tokens_as_its_budget_allows(process: Sidecar, sampling: Frame) -> None:
    free = alone(process, params(None, sampling))
    thought = free["usage"]["reasoning_tokens"]
    for budget in BUDGETS:
        result = alone(process, params(budget, sampling))
        assert result["usage"]["reasoning_tokens"] == min(budget, thought)
        assert result["tokens"][: min(budget, thought)] == free["tokens"][: min(budget, thought)]
        assert "think>" not in result["text"] + result.get("reasoning", "")
        if budget >= thought:
            assert_same(result, free)


def test_it_is_the_same_alone_and_in_a_batch(process: Sidecar) -> None:
    asked = [params(budget, sampling) for budget in BUDGETS for sampling in SAMPLINGS]
    asked += [params(budget, {}, response_format=YES_OR_NO) for budget in BUDGETS]
    expected = [alone(process, each) for each in asked]
    ids = [process.request("generate", each) for each in asked]
    for id_, result in zip(ids, expected, strict=True):
        assert_same(process.result(id_), result)


def test_it_is_the_same_after_the_engine_is_killed(process: Sidecar) -> None:
    asked = [params(budget, sampling) for budget in BUDGETS for sampling in SAMPLINGS]
    expected = [alone(process, each) for each in asked]
    # No answer is over before the engine is killed, because none has more of its window than one delta.
    ids = [process.request("generate", {**each, "stream": str(at), "window": 1}) for at, each in enumerate(asked)]
    for at in range(len(asked)):
        process.notification("stream/delta", stream=str(at))
    process.signal_engine(signal.SIGKILL)
    for at, (id_, result) in enumerate(zip(ids, expected, strict=True)):
        process.notification("stream/interrupted", stream=str(at))
        disturbed = acknowledged(process, str(at), id_)
        assert_same(disturbed, result)
        assert_whole(process.deltas(str(at)), disturbed)
        assert disturbed["usage"]["reasoning_tokens"] == result["usage"]["reasoning_tokens"]


def acknowledged(process: Sidecar, stream: str, id_: int) -> Frame:
    """The result of a stream whose deltas are acknowledged one by one."""

    def follows(frame: Frame) -> bool:
        params = frame.get("params", {})
        return frame.get("id") == id_ or (params.get("stream"), params.get("seq")) == (stream, seq)

    seq = 0
    while "result" not in (frame := process.wait_for(follows)):
        process.notify("stream/ack", {"stream": stream, "seq": seq})
        seq += 1
    result: Frame = frame["result"]
    return result


def test_a_form_follows_reasoning_of_any_budget(process: Sidecar) -> None:
    for budget in (0, 1, 7):
        result = process.call("generate", params(budget, {}, response_format=YES_OR_NO))
        assert result["text"] in YES_OR_NO["choices"]
        assert result["response_format"]["complete"]
        assert result["usage"]["reasoning_tokens"] <= budget

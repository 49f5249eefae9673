from __future__ import annotations

from typing import Any

import pytest

from benchmarks.promises import Promises
from benchmarks.soak import grown

Frame = dict[str, Any]


def delta(seq: int, offset: int, text: str, tokens: list[int]) -> Frame:
    return {"stream": "s", "seq": seq, "offset": offset, "text": text, "tokens": tokens}


def result(**more: Any) -> Frame:
    told = {"text": "ab", "tokens": [1, 2], "finish_reason": "length", "usage": {"completion_tokens": 2}, "last_seq": 1}
    return {"id": 1, "result": {**told, **more}}


def asked(**params: Any) -> Promises:
    promises = Promises()
    promises.asked(1, {"stream": "s", **params})
    return promises


def streamed(**params: Any) -> Promises:
    promises = asked(**params)
    promises.delta(delta(0, 0, "a", [1]))
    promises.delta(delta(1, 1, "b", [2]))
    return promises


def test_a_stream_that_keeps_its_promises_breaks_none() -> None:
    promises = streamed()
    promises.answered(result())
    assert promises.broken == []
    assert promises.unanswered == []
    assert promises.endings == {"length": 1}


def test_a_gap_is_noticed() -> None:
    promises = asked()
    promises.delta(delta(0, 0, "a", [1]))
    promises.delta(delta(2, 1, "b", [2]))
    assert promises.broken == ["1: delta 2 at 1 where 1 at 1 was due"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "aX"},
        {"tokens": [1, 9]},
        {"usage": {"completion_tokens": 3}},
        {"last_seq": 2},
        {"finish_reason": "cancelled"},
        {"finish_reason": "deadline"},
        {"finish_reason": "error"},
    ],
)
def test_an_answer_that_says_something_else_is_noticed(wrong: Frame) -> None:
    promises = streamed()
    promises.answered(result(**wrong))
    assert len(promises.broken) == 1


def test_what_a_request_asked_for_is_no_broken_promise() -> None:
    promises = streamed(deadline_s=1)
    promises.answered(result(finish_reason="deadline"))
    cancelled = streamed()
    cancelled.cancelled(1)
    cancelled.answered(result(finish_reason="cancelled"))
    early = asked()
    early.cancelled(1)
    early.answered({"id": 1, "error": {"code": -32800}})
    assert promises.broken + cancelled.broken + early.broken == []


def test_an_error_is_a_broken_promise() -> None:
    promises = asked()
    promises.answered({"id": 1, "error": {"code": -32603}})
    assert len(promises.broken) == 1


def test_a_second_answer_and_a_late_delta_are_noticed() -> None:
    promises = streamed()
    promises.answered(result())
    promises.answered(result())
    promises.delta(delta(2, 2, "c", [3]))
    assert promises.broken == ["1: a second answer, or one to nothing", "stream s: a delta after its answer"]


def test_a_missing_answer_is_known() -> None:
    assert streamed().unanswered == [1]


def test_growth_is_told_from_noise() -> None:
    steady = [100 * 2**20 + n % 7 * 2**17 for n in range(80)]
    assert not grown(steady)[2]
    assert grown([size + n * 2**19 for n, size in enumerate(steady)])[2]

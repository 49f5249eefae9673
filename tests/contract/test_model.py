"""The model refuses transcripts with one fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .ledger import Ledger
from .messages import call
from .model import Broken, Contract
from .verdicts import by_jsonschema, by_pydantic, check_all

Json = dict[str, Any]
GENERATE = {"model": "fake", "prompt": "x", "stream": "s"}
INVALID: Json = {
    "kind": "invalid_params",
    "retryable": False,
    "errors": [{"loc": ["model"], "msg": "no", "type": "missing"}],
}


class Talk:
    """A conversation, frame by frame."""

    def __init__(self) -> None:
        self.contract = Contract(batch_limit=4, frame_limit_bytes=2000)

    def asks(self, method: str, params: Any = None, id_: Any = 1, *, sure: bool = True) -> None:
        self.contract.written(call(method, params, id_json=json.dumps(id_)), sure=sure)

    def tells(self, method: str, params: Any = None) -> None:
        self.contract.written(call(method, params))

    def writes(self, text: str) -> None:
        self.contract.written(text.encode())

    def hears(self, frame: Any) -> None:
        self.contract.heard_frame(json.dumps(frame).encode())

    def delta(self, seq: int, offset: int, text: str, stream: Any = "s", tokens: list[int] | None = None) -> None:
        tokens = list(text.encode()) if tokens is None else tokens
        params = {"stream": stream, "seq": seq, "offset": offset, "text": text, "tokens": tokens}
        self.hears({"jsonrpc": "2.0", "method": "stream/delta", "params": params})

    def result(self, id_: Any = 1, **members: Any) -> None:
        self.hears({"jsonrpc": "2.0", "id": id_, "result": members})

    def error(self, kind: str, id_: Any = 1, **more: Any) -> None:
        self.hears(error(kind, id_, **more))

    def ends(self) -> None:
        self.contract.session_ended()


def error(kind: str, id_: Any = 1, **more: Any) -> Json:
    data = {"kind": kind, "retryable": False, **more}
    return {"jsonrpc": "2.0", "id": id_, "error": {"code": -32602, "message": "m", "data": data}}


def generated(text: str, last_seq: int | None, reason: str = "stop", **more: Any) -> Json:
    tiers = {"ram": 0, "disk": 0}
    usage = {"prompt_tokens": 1, "cached_tokens": 0, "cached_by_tier": tiers, "completion_tokens": len(text.encode())}
    last = {} if last_seq is None else {"last_seq": last_seq}
    told = {"stream": "s", "text": text, "tokens": list(text.encode()), "finish_reason": reason, "usage": usage}
    return {**told, "timing": {"queue_s": 0}, "seed": 1, **last, **more}


@pytest.fixture
def talk() -> Talk:
    return Talk()


def streaming(talk: Talk, **params: Any) -> Talk:
    """A stream that has said "abcd" in two deltas."""
    talk.asks("generate", {**GENERATE, **params})
    talk.delta(0, 0, "ab")
    talk.delta(1, 2, "cd")
    return talk


def test_a_conversation_without_fault_is_taken(talk: Talk) -> None:
    streaming(talk).result(**generated("abcd", 1))
    talk.asks("ping", id_="two")
    talk.result("two")
    talk.writes("[]")
    talk.error("invalid_request", None)
    talk.writes('[{"jsonrpc":"2.0","id":3,"method":"ping"},7,{"jsonrpc":"2.0","method":"ping"}]')
    talk.hears([{"jsonrpc": "2.0", "id": 3, "result": {}}, error("invalid_request", None)])
    talk.ends()


# Answers.


def test_two_answers_are_one_too_many(talk: Talk) -> None:
    talk.asks("ping")
    talk.result()
    with pytest.raises(Broken, match="answered twice"):
        talk.result()


def test_an_answer_that_is_missing_is_owed(talk: Talk) -> None:
    talk.asks("ping")
    with pytest.raises(Broken, match=r"never answered: .*ping 1"):
        talk.ends()


@pytest.mark.parametrize("asked", ["1.0", '"1"', "1e0", "null"])
def test_an_id_comes_back_as_it_was_written(talk: Talk, asked: str) -> None:
    talk.contract.written(call("ping", id_json=asked))
    with pytest.raises(Broken, match="nobody's answer"):
        talk.result(1)


def test_a_notification_is_not_answered(talk: Talk) -> None:
    talk.tells("no/such")
    with pytest.raises(Broken, match="nobody's answer"):
        talk.error("method_not_found", None)


def test_a_result_is_one_of_the_method(talk: Talk) -> None:
    talk.asks("tokenize", {"model": "m", "text": "x"})
    with pytest.raises(Broken, match="not a result of this method"):
        talk.result()


def test_what_the_schema_refuses_does_not_succeed(talk: Talk) -> None:
    talk.asks("tokenize", {"model": "m"}, sure=False)
    with pytest.raises(Broken, match="do not fit the schema"):
        talk.result(tokens=[1], count=1)


def test_good_parameters_are_not_refused(talk: Talk) -> None:
    talk.asks("tokenize", {"model": "m", "text": "x"})
    with pytest.raises(Broken, match="nothing explains invalid_params"):
        talk.error(**INVALID)


@pytest.mark.parametrize("kind", ["internal_error", "engine_lost", "duplicate_id", "shutting_down", "cancelled"])
def test_an_error_that_nothing_explains_is_found(talk: Talk, kind: str) -> None:
    talk.asks("load", {"model": "fake"})
    with pytest.raises(Broken, match=f"nothing explains {kind}"):
        talk.error(kind)


def test_an_error_is_one_that_the_method_has(talk: Talk) -> None:
    talk.asks("tokenize", {"model": "fake", "text": "x"})
    with pytest.raises(Broken, match="not among the errors of tokenize"):
        talk.error("context_too_long", have=2, limit=1)


def test_what_is_no_message_has_its_own_error(talk: Talk) -> None:
    talk.writes('{"jsonrpc":"2.0","id":1}')
    with pytest.raises(Broken, match="invalid_request"):
        talk.error(**INVALID)


def test_a_batch_is_one_array_in_its_order(talk: Talk) -> None:
    talk.writes('[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]')
    with pytest.raises(Broken, match="nobody's answer"):
        talk.hears([{"jsonrpc": "2.0", "id": 2, "result": {}}, {"jsonrpc": "2.0", "id": 1, "result": {}}])


def test_an_element_of_a_batch_is_not_answered_alone(talk: Talk) -> None:
    talk.writes('[{"jsonrpc":"2.0","id":1,"method":"ping"}]')
    with pytest.raises(Broken, match="nobody's answer"):
        talk.result()


@pytest.mark.parametrize(("text", "kind"), [("[1,1,1,1,1]", "batch_too_long"), ("x" * 2001, "frame_too_large")])
def test_beyond_a_limit_there_is_one_error(talk: Talk, text: str, kind: str) -> None:
    talk.writes(text)
    talk.error(kind, None)
    talk.ends()


def test_initialize_succeeds_once(talk: Talk) -> None:
    told: Json = {"protocol_version": 1, "server": {"name": "s", "version": "1"}, "instance": "i"}
    told |= {"capabilities": {"methods": [], "generate_parameters": [], "autoload": True}}
    told["capabilities"]["cache"] = {"ram": True, "disk": False}
    told["limits"] = {"frame_bytes": 1, "header_bytes": 1, "batch": 1, "nesting": 1, "journal_bytes": 1}
    for id_ in (1, 2):
        talk.asks("initialize", {"protocol_version": 1, "client": {"name": "c"}}, id_)
    talk.result(1, **told)
    with pytest.raises(Broken, match="initialize succeeded twice"):
        talk.result(2, **told)


def test_an_id_and_a_name_that_are_surely_taken_are_refused(talk: Talk) -> None:
    parked = {"model": "fake?tokens=100000&context=200000&delay_ms=5", "prompt": "x", "stream": "s", "window": 1}
    talk.asks("generate", parked)
    talk.delta(0, 0, "a")
    talk.asks("tokenize", {"model": "m", "text": "x"})
    with pytest.raises(Broken, match="nobody's answer"):
        talk.result(tokens=[120], count=1)
    talk.error("duplicate_id")
    talk.asks("generate", GENERATE, 2)
    with pytest.raises(Broken, match=r"where one of .*duplicate_stream"):
        talk.error("unknown_stream", 2, stream="s")


# Streams.


@pytest.mark.parametrize(
    ("delta", "why"),
    [
        ((3, 4, "e"), "delta 3 where 2 is due"),
        ((1, 4, "e"), "delta 1 where 2 is due"),
        ((2, 5, "e"), "4 characters were before it"),
        ((2, 3, "e"), "4 characters were before it"),
    ],
    ids=["a gap", "again", "a character left out", "a character twice"],
)
def test_deltas_have_no_gaps(talk: Talk, delta: tuple[int, int, str], why: str) -> None:
    with pytest.raises(Broken, match=why):
        streaming(talk).delta(*delta)


def test_a_delta_after_the_answer_is_found(talk: Talk) -> None:
    streaming(talk).result(**generated("abcd", 1))
    with pytest.raises(Broken, match="no such stream runs"):
        talk.delta(2, 4, "e")


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (generated("abc", 1), "the deltas said 'abcd'"),
        (generated("abcd", 2), "last_seq is 2"),
        (generated("abcd", 1, tokens=[97, 98, 99, 101]), "other tokens"),
        (generated("abcd", 1, tokens=[97]), "4 completion tokens"),
        (generated("abcd", 1, "cancelled"), "nobody cancelled it"),
        (generated("abcd", 1, "deadline"), "it has no deadline"),
        (generated("abcd", 1, "repeated"), "it has no guard"),
        (generated("abcd", 1, stream="t"), "another stream"),
        (generated("abcd", 1, logprobs=[]), None),
    ],
)
def test_the_answer_is_what_the_deltas_were(talk: Talk, result: Json, why: str | None) -> None:
    streaming(talk)
    if why is None:
        talk.result(**result)
    else:
        with pytest.raises(Broken, match=why):
            talk.result(**result)


def test_more_tokens_than_were_asked_for_are_found(talk: Talk) -> None:
    with pytest.raises(Broken, match="more tokens than it asked for"):
        streaming(talk, max_tokens=3).result(**generated("abcd", 1, "length"))


def test_a_cancel_explains_its_ending_but_only_of_what_was_asked_before_it(talk: Talk) -> None:
    streaming(talk)
    talk.tells("$/cancelRequest", {"id": 1})
    talk.result(**generated("abcd", 1, "cancelled"))
    talk.asks("generate", {**GENERATE, "stream": "s"})
    with pytest.raises(Broken, match="nobody cancelled it"):
        talk.result(**generated("", None, "cancelled"))


def test_a_cancel_by_name_finds_what_was_written_before_it(talk: Talk) -> None:
    talk.asks("generate", GENERATE)
    talk.asks("stream/cancel", {"stream": "s"}, 2)
    with pytest.raises(Broken, match="nothing explains unknown_stream"):
        talk.error("unknown_stream", 2, stream="s")


def test_a_window_holds_until_an_ack_or_the_end(talk: Talk) -> None:
    streaming(talk, window=1)
    talk.delta(2, 4, "e")
    with pytest.raises(Broken, match="2 deltas beyond the window of 1"):
        talk.result(**generated("abcde", 2))


def test_an_ack_opens_the_window_and_one_that_was_refused_does_not(talk: Talk) -> None:
    talk.asks("generate", {**GENERATE, "window": 1})
    talk.delta(0, 0, "a")
    talk.asks("stream/ack", {"stream": "s", "seq": 0}, 2)
    talk.result(2)
    talk.delta(1, 1, "b")
    talk.asks("stream/ack", {"stream": "s", "seq": 1}, 3, sure=False)
    talk.error(id_=3, **INVALID)
    talk.delta(2, 2, "c")
    talk.delta(3, 3, "d")
    with pytest.raises(Broken, match="2 deltas beyond the window of 1"):
        talk.result(**generated("abcd", 3))


def test_a_subscription_explains_a_step_back_but_no_other_text(talk: Talk) -> None:
    streaming(talk)
    talk.asks("stream/subscribe", {"stream": "s", "after_seq": 0}, 2)
    talk.delta(2, 2, "cde")
    talk.asks("stream/subscribe", {"stream": "s"}, 3)
    with pytest.raises(Broken, match="says 'xb' where 'ab' was said"):
        talk.delta(3, 0, "xb")


def test_a_late_subscription_brings_the_same_text_and_nothing_new(talk: Talk) -> None:
    streaming(talk).result(**generated("abcd", 1))
    talk.asks("stream/subscribe", {"stream": "s"}, 2)
    talk.delta(2, 0, "abc")
    with pytest.raises(Broken, match="something new after the answer"):
        talk.delta(3, 3, "de")


def test_all_is_sent_again_before_the_answer(talk: Talk) -> None:
    streaming(talk)
    talk.asks("stream/subscribe", {"stream": "s"}, 2)
    talk.delta(2, 0, "ab")
    with pytest.raises(Broken, match="before all had been sent again"):
        talk.result(**generated("abcd", 2))


def test_a_name_may_be_used_again_and_then_begins_at_zero(talk: Talk) -> None:
    streaming(talk).result(**generated("abcd", 1))
    talk.asks("generate", GENERATE, 2)
    talk.delta(0, 0, "x")
    talk.result(2, **generated("x", 0))
    talk.ends()


# The other notifications.


@pytest.mark.parametrize(
    ("method", "params", "why"),
    [
        ("stream/interrupted", {"stream": "s", "because": "b"}, "nobody hurt the engine"),
        ("progress", {"token": 1, "model": "m", "stage": "s", "done_bytes": 0}, "which no load asked for"),
        ("log", {"level": "info", "message": "m"}, "without initialize"),
        ("engine/state", {"state": "ready", "restarts": 0}, "unasked"),
        ("ping", {}, "does not tell ping"),
    ],
)
def test_what_nobody_asked_to_hear_is_not_said(talk: Talk, method: str, params: Json, why: str) -> None:
    talk.asks("generate", GENERATE)
    with pytest.raises(Broken, match=why):
        talk.hears({"jsonrpc": "2.0", "method": method, "params": params})


def test_an_interruption_names_the_last_delta(talk: Talk) -> None:
    streaming(talk, model="fake?crash_after=2")
    with pytest.raises(Broken, match="interrupted after delta 0, and 2 had come"):
        talk.hears(
            {
                "jsonrpc": "2.0",
                "method": "stream/interrupted",
                "params": {"stream": "s", "because": "b", "last_seq": 0},
            }
        )


# Dealing answers, and judging frames.


def test_an_answer_is_moved_if_that_leaves_one_for_everybody() -> None:
    takes = {"either": "ab", "a": "a"}
    ledger: Ledger[str, str] = Ledger()
    ledger.asked += ["either", "a"]
    assert ledger.give("a", lambda asked, answer: answer in takes[asked]) == ("either", "either")
    assert ledger.give("b", lambda asked, answer: answer in takes[asked]) == ("either", "a")
    assert ledger.waiting == []
    assert ledger.give("a", lambda asked, answer: answer in takes[asked]) is None


@pytest.mark.parametrize(
    ("message", "method"),
    [
        ({"jsonrpc": "2.0", "id": 1, "result": {"more": 1}}, "ping"),
        ({"jsonrpc": "2.0", "id": 1, "result": {"tokens": [1]}}, "tokenize"),
        ({"jsonrpc": "2.0", "id": 1, "result": {"tokens": [-1], "count": 1}}, "tokenize"),
        (error("shutting_down"), ""),
        (error("overloaded"), ""),
        (
            {"jsonrpc": "2.0", "method": "stream/delta", "params": {"stream": "s", "seq": 0, "offset": 0, "text": ""}},
            "",
        ),
    ],
)
def test_each_judge_refuses_what_is_not_in_the_schema(message: Json, method: str) -> None:
    with pytest.raises(Broken, match="jsonschema refuses"):
        check_all([(message, method)], None)
    with pytest.raises(Broken, match="pydantic refuses"):
        check_all([(message, method)], None)


def test_whole_frames_are_judged_by_the_schema(talk: Talk) -> None:
    frame = {"jsonrpc": "2.0", "id": 1, "result": {}, "error": None}
    assert by_jsonschema(("SuccessResponse", frame)) is not None
    assert by_pydantic(("EmptyResult", {})) is None


def test_a_failure_shows_the_end_of_the_transcript(talk: Talk) -> None:
    talk.asks("ping")
    talk.result()
    shown = talk.contract.told("why")
    assert shown.splitlines()[0] == "why"
    assert '→ {"jsonrpc":"2.0","id":1,"method":"ping"}' in shown
    assert '← {"jsonrpc": "2.0", "id": 1, "result": {}}' in shown

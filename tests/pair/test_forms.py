"""Answers with a form: whole, cut off, stopped, watched through a window, and carried over the engine's death."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.support.host import Frame
from tests.support.pair import Pair, pair
from tests.support.streamed import assert_same, assert_whole

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "schema": PERSON}
ADA = 'fake?text={"name": "Ada", "age": 36, "tags": ["a"]}'
SLOW = ADA + "&delay_ms=5"


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Pair]:
    with pair() as process:
        yield process


def params(model: str = ADA, form: Any = FORM, **more: Any) -> dict[str, Any]:
    return {"model": model, "prompt": "x", "seed": 3, "response_format": form, **more}


def assert_valid(result: Frame) -> None:
    assert (result["response_format"]["complete"], result["finish_reason"]) == (True, "stop")
    jsonschema.validate(json.loads(result["text"]), PERSON)


def test_an_answer_that_has_the_form_is_told_as_it_would_be_without(sidecar: Pair) -> None:
    result = sidecar.call("generate", params())
    assert_valid(result)
    assert result["text"] == '{"name": "Ada", "age": 36, "tags": ["a"]}'
    figures = result["response_format"]
    assert figures["masked_steps"] == 0
    assert 0 < figures["forced_tokens"] < result["usage"]["completion_tokens"]


@pytest.mark.parametrize("seed", range(8))
def test_an_answer_that_would_have_another_form_gets_this_one(sidecar: Pair, seed: int) -> None:
    result = sidecar.call("generate", params("fake?tokens=40&wide=1", seed=seed))
    assert_valid(result)
    assert result["response_format"]["masked_steps"] > 0


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"type": "regex", "pattern": "[a-c]{3}[0-9]"}, "cba7"),
        ({"type": "choice", "choices": ["yes", "no", "no way"]}, "no way"),
        ({"type": "grammar", "syntax": "lark", "grammar": 'start: "(" start ")" | "."'}, "((.))"),
        ({"type": "grammar", "syntax": "gbnf", "grammar": 'root ::= "é" [0-9]+ "!"'}, "é42!"),
        ({"type": "json_object"}, '{"any": [1, null, {"thing": ""}]}'),
    ],
)
def test_each_form_is_kept_to(sidecar: Pair, form: Any, text: str) -> None:
    result = sidecar.call("generate", params(f"fake?text={text}", form))
    assert (result["text"], result["response_format"]["complete"]) == (text, True)


def test_deltas_of_forced_tokens_are_deltas_like_any_other(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(stream="s"))
    assert_whole(sidecar.deltas("s"), result)
    assert_valid(result)


def test_max_tokens_cut_a_form_off_and_the_result_says_so(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(max_tokens=9))
    assert (result["finish_reason"], result["response_format"]["complete"]) == ("length", False)
    assert result["usage"]["completion_tokens"] == 9
    assert '{"name": "Ada"'.startswith(result["text"])


def test_a_stop_string_within_the_form_cuts_it(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(stop=['", "age']))
    assert (result["text"], result["stop_match"]) == ('{"name": "Ada', '", "age')
    assert (result["finish_reason"], result["response_format"]["complete"]) == ("stop", False)


def test_a_form_has_log_probabilities_for_each_of_its_tokens(sidecar: Pair) -> None:
    result = sidecar.call("generate", params(logprobs=1))
    assert_valid(result)
    assert [entry["token"] for entry in result["logprobs"]] == result["tokens"]


def test_a_window_changes_nothing_about_a_form(sidecar: Pair) -> None:
    id_ = sidecar.request("generate", params(SLOW, stream="w", window=1))
    result = acknowledged(sidecar, "w", id_)
    assert_valid(result)
    assert_whole(sidecar.deltas("w"), result)


def acknowledged(process: Pair, stream: str, id_: Any) -> Frame:
    """The result of a stream whose deltas are acknowledged one by one."""
    seq = 0
    while "result" not in (frame := process.wait_for(next_of(stream, seq, id_))):
        process.call("stream/ack", {"stream": stream, "seq": seq})
        seq = frame["params"]["seq"] + 1
    result: Frame = frame["result"]
    return result


def next_of(stream: str, seq: int, id_: Any) -> Any:
    """The answer to ``id_``, or the delta number ``seq``."""

    def wanted(frame: Frame) -> bool:
        if frame.get("id") == id_:
            return True
        told = frame.get("params", {})
        return frame.get("method") == "stream/delta" and (told["stream"], told["seq"]) == (stream, seq)

    return wanted


@pytest.mark.parametrize("ending", ["cancelled", "deadline"])
def test_a_form_that_is_ended_before_it_is_whole_is_incomplete(sidecar: Pair, ending: str) -> None:
    endless = params("fake?tokens=5000&delay_ms=20", {"type": "regex", "pattern": "[a-z ]{4000}"}, max_tokens=4000)
    deadline = {"deadline_s": 0.3} if ending == "deadline" else {}
    id_ = sidecar.request("generate", {**endless, **deadline, "stream": ending})
    sidecar.notification("stream/delta", stream=ending)
    if ending == "cancelled":
        sidecar.call("stream/cancel", {"stream": ending})
    result = sidecar.result(id_)
    assert (result["finish_reason"], result["response_format"]["complete"]) == (ending, False)


def test_sequences_with_and_without_a_form_run_together_whatever_their_priority(sidecar: Pair) -> None:
    free = {"model": "fake?tokens=60&delay_ms=1", "prompt": "x", "seed": 4}
    alone = sidecar.call("generate", free)
    held = sidecar.call("generate", params(SLOW))
    asked = [
        sidecar.request("generate", {**(params(SLOW) if n % 2 else free), "priority": priority})
        for n, priority in enumerate(["low", "critical", "normal", "high"] * 3)
    ]
    for n, id_ in enumerate(asked):
        assert_same(sidecar.result(id_), held if n % 2 else alone)


@pytest.mark.parametrize("model", [ADA, "fake?tokens=40"], ids=["as scripted", "masked"])
def test_a_form_goes_on_with_its_next_token_where_the_engine_died(model: str) -> None:
    with pair() as process:
        process.initialize()
        undisturbed = process.call("generate", params(model))
        # It pauses behind its first delta.
        id_ = process.request("generate", params(f"{model}&delay_ms=50", stream="s", window=1))
        process.notification("stream/delta", stream="s")
        process.end_engine(signal.SIGKILL)
        process.notification("stream/interrupted", stream="s")
        result = acknowledged(process, "s", id_)
        assert_whole(process.deltas("s"), result)
        assert_same(result, undisturbed)
        assert_valid(result)
        assert result["response_format"] == undisturbed["response_format"]


def test_what_no_answer_can_be_held_to_is_refused_before_the_queue(sidecar: Pair) -> None:
    schema = {"type": "object", "properties": {"at": {"type": "string", "contentEncoding": "base64"}}}
    error = sidecar.error("generate", params(form={"type": "json_schema", "schema": schema}))
    assert error["data"]["kind"] == "invalid_params"
    [fault] = error["data"]["errors"]
    assert fault["loc"] == ["response_format", "schema", "properties", "at", "contentEncoding"]


def test_a_form_does_not_go_with_going_on_past_the_end(sidecar: Pair) -> None:
    [fault] = sidecar.error("generate", params(ignore_eos=True))["data"]["errors"]
    assert fault["loc"] == ["ignore_eos"]


def test_a_model_can_draft_for_itself(sidecar: Pair) -> None:
    assert sidecar.call("check_draft", {"model": ADA, "draft": "fake"}) == {"compatible": True}

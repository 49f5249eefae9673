"""Checks of an answer for each feature that its request has, whatever the others are."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.host import Frame
from tests.support.streamed import assert_logprobs, assert_whole, without_ids

from .features import BANNED, BEGIN, BUDGET, FORM, GUARD, SEED, TOOL
from .models import SPELLED
from .rounds import Outcome
from .stops import said

Check = Callable[[Outcome], None]
VECTORS_CUT = {"deadline": {"deadline_passed"}, "unload": {"cancelled", "model_not_loaded"}}  # kinds of errors
ENDINGS = {"stop", "tool_calls", "length", "deadline", "error", "repeated"}
CUT_OFF = ("deadline", "error", "repeated")  # in the middle of anything


def check(outcome: Outcome) -> None:
    """Hold an answer against what is promised for each of its features, and for all answers."""
    has_the_tokens(outcome)
    if outcome.deltas is not None:
        assert_whole(outcome.deltas, outcome.answer)
    for name, checked in CHECKS.items():
        if name in outcome.case:
            checked(outcome)
    for method, (frame, alone) in outcome.beside.items():
        has_the_vectors(outcome, method, frame, alone)


def has_the_vectors(outcome: Outcome, method: str, frame: Frame, alone: Frame) -> None:
    """The other answer is the one that is given alone, or was cut as the request was; asked again, it is whole."""
    if "error" in frame:
        kinds = [kind for feature, kinds in VECTORS_CUT.items() if feature in outcome.case for kind in kinds]
        assert frame["error"]["data"]["kind"] in kinds, frame
    else:
        same_vectors(outcome, method, frame["result"], alone)
        if "prefix hit" in outcome.case:
            assert frame["result"]["usage"]["cached_tokens"] >= 64
    if method in outcome.beside_again:
        again, _ = outcome.beside_again[method]
        same_vectors(outcome, method, again["result"], alone)


def same_vectors(outcome: Outcome, method: str, result: Frame, alone: Frame) -> None:
    """The same numbers, bit for bit under exact numerics, to the last digits of float32 under fast."""
    if method == "embed":
        numbers, expected = (list(chain.from_iterable(each["embeddings"])) for each in (result, alone))
    else:
        numbers, expected = (_scores(each) for each in (result, alone))
    if outcome.exact:
        assert numbers == expected
    else:
        assert numbers == pytest.approx(expected, abs=1e-6)


def _scores(result: Frame) -> list[float]:
    return [item["relevance_score"] for item in sorted(result["results"], key=lambda item: item["index"])]


def has_the_tokens(outcome: Outcome) -> None:
    """The answer is the undisturbed one, or the beginning of it where it was cut."""
    answer, whole = outcome.answer, outcome.undisturbed
    assert answer["finish_reason"] in ENDINGS
    if answer["finish_reason"] in ("deadline", "error"):
        assert "deadline" in outcome.case or "unload" in outcome.case
        assert answer["tokens"] == whole["tokens"][: len(answer["tokens"])]
        assert whole["text"].startswith(answer["text"].rstrip("\N{REPLACEMENT CHARACTER}"))
        assert _begins(answer.get("reasoning", ""), whole.get("reasoning", ""))
    else:
        same(answer, whole)
    if outcome.again is not None and outcome.again["finish_reason"] != "deadline":
        same(outcome.again, whole)


def same(answer: dict[str, Any], whole: dict[str, Any]) -> None:
    for name in ("tokens", "text", "reasoning", "finish_reason", "stop_match", "seed"):
        assert answer.get(name) == whole.get(name), name
    for name in ("tool_calls", "incomplete_tool_calls"):
        assert without_ids(answer.get(name)) == without_ids(whole.get(name)), name
    if "response_format" in whole:
        assert answer["response_format"] == whole["response_format"]


def _begins(cut: str, whole: str) -> bool:
    """Whether ``cut`` is the beginning of ``whole``, behind which the end marker may have begun."""
    cut = cut.rstrip("\N{REPLACEMENT CHARACTER}")
    return whole.startswith(cut) or SPELLED[1].startswith(cut.removeprefix(whole))


def has_the_form(outcome: Outcome) -> None:
    """It is valid where it is said to be complete, and said to be complete where nothing cut it."""
    form, answer = outcome.asked["response_format"], outcome.answer
    told = answer["response_format"]
    cut = "stop_match" in answer or answer["finish_reason"] not in ("stop", "tool_calls") or stopped_thinking(outcome)
    assert told["complete"] == (not cut)
    assert told["forced_tokens"] <= len(answer["tokens"])
    if told["complete"] and not calls(outcome):
        errors = list(Draft202012Validator(form["schema"]).iter_errors(json.loads(answer["text"])))
        assert not errors, answer["text"]
    assert " " * 9 not in answer["text"]


def calls(outcome: Outcome) -> bool:
    return bool(outcome.answer["finish_reason"] == "tool_calls")


def calls_the_tool(outcome: Outcome) -> None:
    """It is one whole call and no text, or a part of one where something cut it."""
    assert outcome.answer["text"] == ""
    may_call_the_tool(outcome)


def may_call_the_tool(outcome: Outcome) -> None:
    """It is text and one whole call, whose first token the model likes, or a part of that where something cut it.

    With a form beside it the answer may have that instead.
    """
    answer = outcome.answer
    assert BEGIN not in answer["text"]
    # A stop token may be in the middle of a call, as if the model ended its turn there.
    assert "tool_call_error" not in answer or "stop token" in outcome.case, answer
    if calls(outcome):
        [call] = answer["tool_calls"]
        assert call["name"] == TOOL["name"]
        errors = list(Draft202012Validator(FORM["schema"]).iter_errors(json.loads(call["arguments"])))
        assert not errors, call["arguments"]
    else:
        other = "stop_match" in answer or "stop token" in outcome.case or "response_format" in outcome.asked
        assert other or answer["finish_reason"] in CUT_OFF
        assert "tool_calls" not in answer or answer["finish_reason"] == "repeated"


def gives_away(outcome: Outcome) -> None:
    has_the_form(outcome)
    answer = outcome.answer
    # A stop string may cut off the form of an answer that has text because it need not be a call.
    cut = "lazy call" in outcome.case and not answer["response_format"]["complete"]
    if answer["finish_reason"] not in (*CUT_OFF, "tool_calls") and not cut and not stopped_thinking(outcome):
        assert answer["response_format"]["forced_tokens"] > 60


def is_parsed(outcome: Outcome) -> None:
    """No marker is in it; without a budget the prompt leaves nothing to think about.

    A random model says the tokens that mark its reasoning anywhere, where they mark nothing.
    """
    answer = outcome.answer
    assert not any(marker in answer["text"] + answer.get("reasoning", "") for marker in SPELLED)
    if "reasoning budget" not in outcome.case:
        assert not answer["usage"].get("reasoning_tokens")
        assert "reasoning" not in answer


def ends_its_reasoning(outcome: Outcome) -> None:
    """It has as many tokens as it may. The tokens of an end marker that was cut off count as well."""
    is_parsed(outcome)
    told = outcome.answer["usage"].get("reasoning_tokens", 0)
    if outcome.answer["finish_reason"] in CUT_OFF:
        assert told < BUDGET + len(SPELLED[1])
    elif stopped_thinking(outcome):
        assert told < BUDGET
    else:
        assert told == BUDGET or ("recurrent" in outcome.case and told < BUDGET)


def stopped_thinking(outcome: Outcome) -> bool:
    """Whether a stop token, which no form needs, came while the answer was still free."""
    answer = outcome.answer
    thinks = "reasoning budget" in outcome.case and "stop token" in outcome.case
    return thinks and answer["finish_reason"] == "stop" and not answer["text"]


def counts_proposals(outcome: Outcome) -> None:
    told = outcome.answer["usage"].get("speculation")
    if outcome.answer["tokens"]:
        assert told is not None
    if told is not None:
        assert 0 <= told["accepted"] <= told["proposed"]
        assert told["passes"] <= len(outcome.answer["tokens"]) + 1


def has_the_seed(outcome: Outcome) -> None:
    assert outcome.answer["seed"] == SEED


def has_no_banned_token(outcome: Outcome) -> None:
    assert BANNED not in outcome.answer["tokens"]


def has_log_probabilities(outcome: Outcome) -> None:
    """Each token has its own, and it is the same as without what keeps tokens."""
    assert_logprobs(outcome.answer, 2, greedy=False)
    for own, other in zip(outcome.answer["logprobs"], outcome.likely, strict=False):
        assert own["token"] == other["token"]
        assert own["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
        assert [top["token"] for top in own["top"]] == [top["token"] for top in other["top"]]


def ends_at_the_string(outcome: Outcome) -> None:
    [stop] = outcome.asked["stop"]
    assert stop not in said(outcome.answer)
    if outcome.answer["finish_reason"] == "stop" and "stop token" not in outcome.case:
        assert outcome.answer["stop_match"] == stop
        assert said(outcome.unstopped).startswith(said(outcome.answer) + stop)


def ends_at_the_token(outcome: Outcome) -> None:
    [stop] = outcome.asked["stop_tokens"]
    assert stop not in outcome.answer["tokens"]
    if outcome.answer["finish_reason"] == "stop" and not (outcome.case.has_form or "stop string" in outcome.case):
        tokens = outcome.unstopped["tokens"]
        assert outcome.answer["tokens"] == tokens[: tokens.index(stop)]


def ends_at_its_loop(outcome: Outcome) -> None:
    """It has no loop, or ends with its first one."""
    tokens, reason = outcome.answer["tokens"], outcome.answer["finish_reason"]
    looped = [end for end in range(GUARD, len(tokens) + 1) if is_loop(tokens[end - GUARD : end])]
    if reason == "repeated" or (looped and reason not in ("deadline", "error")):
        assert looped == [len(tokens)]
        assert reason == "repeated" or "stop_match" in outcome.answer


def is_loop(tokens: list[int]) -> bool:
    return any(tokens[period:] == tokens[:-period] for period in range(1, len(tokens) // 3 + 1))


def was_cached(outcome: Outcome) -> None:
    if outcome.answer["finish_reason"] not in ("deadline", "error"):
        assert outcome.answer["usage"]["cached_tokens"] >= 64


def ends_in_time(outcome: Outcome) -> None:
    assert outcome.answer["finish_reason"] in ("deadline", outcome.undisturbed["finish_reason"], "error")


def ends_with_its_model(outcome: Outcome) -> None:
    """It breaks off with a typed error, and the same request afterwards is answered as ever."""
    assert outcome.answer["finish_reason"] == "error"
    assert outcome.answer["error"]["data"]["kind"] in ("cancelled", "model_not_loaded")
    assert outcome.again is not None


CHECKS: dict[str, Check] = {
    "grammar": has_the_form,
    "forced tokens": gives_away,
    "tool call": calls_the_tool,
    "lazy call": may_call_the_tool,
    "parsed output": is_parsed,
    "reasoning budget": ends_its_reasoning,
    "ngram": counts_proposals,
    "draft": counts_proposals,
    "seed": has_the_seed,
    "bias": has_no_banned_token,
    "logprobs": has_log_probabilities,
    "stop string": ends_at_the_string,
    "stop token": ends_at_the_token,
    "repeat guard": ends_at_its_loop,
    "deadline": ends_in_time,
    "prefix hit": was_cached,
    "unload": ends_with_its_model,
}

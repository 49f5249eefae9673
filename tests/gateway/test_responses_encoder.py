"""Events of a streamed response add up to the response, whatever the answer was cut into."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_gateway.surfaces.events import Delta, Reasoning, Text, ToolArguments, ToolStart
from mlx_sidecar_gateway.surfaces.faults import Fault
from mlx_sidecar_gateway.surfaces.openai.responses.answer import Reply
from mlx_sidecar_gateway.surfaces.openai.responses.encoder import ResponseEncoder
from tests.gateway.answers import TEXT_LOGPROB, answers, deltas, result

ID = "0" * 32
FAULT = Fault(503, "engine_lost", "it is gone", retryable=True)
TERMINALS = {"response.completed", "response.incomplete", "response.failed"}

replies = st.builds(Reply, st.just(ID), st.just(1), summarised=st.booleans(), is_sealed=st.booleans())


def told(data: bytes) -> list[dict[str, Any]]:
    """The events; checks their names, their numbers and that one of them ends the stream."""
    blocks = data.decode().removesuffix("\n\n").split("\n\n")
    events = []
    for block in blocks:
        if block == ": ping":
            continue
        name, line = block.split("\n")
        events.append(json.loads(line.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event["type"] in TERMINALS for event in events] == [False] * (len(events) - 1) + [True]
    return events


def run(encoder: ResponseEncoder, events: list[Delta], end: GenerateResult | Fault) -> list[dict[str, Any]]:
    data = b"".join([part for event in events for part in (encoder.delta(event), encoder.ping())])
    return told(data + (encoder.error(end) if isinstance(end, Fault) else encoder.end(end)))


def replayed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output that the events tell; checks that each item, part and text is begun, added to and ended once."""
    output: list[dict[str, Any]] = []
    item: dict[str, Any] = {}
    text, open_parts = "", 0
    for event in events[2:-1]:
        kind = event["type"].rpartition(".")[2]
        assert event["output_index"] == len(output)
        if event["type"] == "response.output_item.added":
            item, text = event["item"], ""
            assert item["type"] == "reasoning" or item["status"] == "in_progress"
        elif event["type"] == "response.output_item.done":
            assert (event["item"]["id"], event["item"]["type"], open_parts) == (item["id"], item["type"], 0)
            output.append(event["item"])
        else:
            assert event["item_id"] == item["id"]
            assert event.get("content_index", 0) == event.get("summary_index", 0) == 0
            if "delta" in event:
                text += event["delta"]
            elif "part" in event:
                open_parts += 1 if kind == "added" else -1
                assert event["part"]["text"] == text
            else:
                assert (event["text"] if "text" in event else event["arguments"]) == text
    return output


def joined(output: list[dict[str, Any]], type_: str, *members: str) -> str:
    parts = [part for item in output if item["type"] == type_ for name in members for part in item.get(name, ())]
    return "".join(part["text"] for part in parts)


@given(replies, deltas(), st.sampled_from(["stop", "length"]))
def test_events_add_up_to_the_response_which_is_kept(reply: Reply, events: list[Delta], reason: str) -> None:
    kept: list[bytes] = []
    *before, last = run(ResponseEncoder(reply, lambda _, body: kept.append(body)), events, result(reason))
    output = replayed([*before, last])
    assert last["response"]["output"] == output
    assert [json.loads(body) for body in kept] == [last["response"]]
    assert len({item["id"] for item in output}) == len(output)
    assert joined(output, "message", "content") == "".join(e.text for e in events if isinstance(e, Text))
    reasoning = joined(output, "reasoning", "summary" if reply.summarised else "content")
    assert reasoning == "".join(e.text for e in events if isinstance(e, Reasoning))
    calls = [(item["call_id"], item["arguments"]) for item in output if item["type"] == "function_call"]
    assert [id_ for id_, _ in calls] == [event.id for event in events if isinstance(event, ToolStart)]
    assert "".join(text for _, text in calls) == "".join(e.arguments for e in events if isinstance(e, ToolArguments))


@given(replies, deltas())
def test_an_answer_that_broke_off_ends_in_one_failure(reply: Reply, events: list[Delta]) -> None:
    *_, last = run(ResponseEncoder(reply, lambda *_: pytest.fail("it is kept")), events, FAULT)
    assert last["type"] == "response.failed"
    # SDKs raise for the first, agents read the second.
    assert last["error"]["code"] == last["response"]["error"]["code"] == "engine_lost"
    assert last["response"]["status"] == "failed"


@given(replies, answers())
def test_a_whole_response_has_what_its_stream_has(reply: Reply, answer: tuple[list[Delta], GenerateResult]) -> None:
    events, ending = answer
    streamed = run(ResponseEncoder(reply, lambda *_: None), events, ending)[-1]["response"]
    assert json.loads(reply.ended(reply.whole_output(ending), ending)) == streamed


def test_an_answer_that_its_limit_cut_off_is_incomplete() -> None:
    reply = Reply(ID, 1)
    *_, last = run(ResponseEncoder(reply, lambda *_: None), [Text("half")], result("length"))
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in last["response"]["output"]] == ["incomplete"]
    cut: list[Delta] = [ToolStart(0, "a", "f"), ToolArguments(0, "{}"), ToolStart(1, "b", "f"), ToolArguments(1, '{"n')]
    *_, last = run(ResponseEncoder(reply, lambda *_: None), cut, result("length"))
    assert [item["status"] for item in last["response"]["output"]] == ["completed", "incomplete"]


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    *_, last = run(ResponseEncoder(Reply(ID, 1), lambda *_: None), [], result())
    (item,) = last["response"]["output"]
    assert (item["type"], item["content"][0]["text"]) == ("message", "")


def test_log_probabilities_come_with_their_text_and_are_in_the_part() -> None:
    reply = Reply(ID, 1, with_logprobs=True)
    events = run(ResponseEncoder(reply, lambda *_: None), [Text("", [TEXT_LOGPROB]), Text("é")], result())
    entries = [entry for event in events if event["type"].endswith("text.delta") for entry in event["logprobs"]]
    assert [entry["bytes"] for entry in entries] == [[195, 169]]
    assert entries[0]["top_logprobs"] == [{"token": "e", "logprob": -9999.0, "bytes": [101]}]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == entries


def test_usage_and_times_are_those_of_the_result() -> None:
    response = json.loads(Reply(ID, 100).ended([], result()))
    assert response["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }
    assert (response["created_at"], response["completed_at"]) == (100, 104)

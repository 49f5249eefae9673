"""The requests to upstreams, and how their answers are read, without HTTP."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_client import GenerateResult, RpcError
from mlx_sidecar_client.protocol.errors import UnsupportedParameter
from mlx_sidecar_gateway.providers import anthropic_request, openai_request
from mlx_sidecar_gateway.providers.anthropic_answer import AnthropicAnswer
from mlx_sidecar_gateway.providers.capabilities import wish_of
from mlx_sidecar_gateway.providers.events import EventDecoder, Malformed
from mlx_sidecar_gateway.providers.gathered import Gathered
from mlx_sidecar_gateway.providers.openai_answer import OpenAIAnswer
from mlx_sidecar_gateway.providers.table import UpstreamProvider
from mlx_sidecar_gateway.surfaces.faults import Refused
from tests.gateway.providers.upstreams import CALL, EVENTS, REASONING, TEXT, Kind

both = pytest.mark.parametrize("kind", ["openai", "anthropic"])
HELLO = [{"role": "user", "content": "Hello"}]
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": PARAMETERS}}]
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "be brief"},
    {"role": "system", "content": "and kind"},
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "2", "is_error": True},
    {"role": "user", "content": "well?"},
]


def sent(kind: Kind, assumed: frozenset[str] = frozenset(), accepts: tuple[str, ...] = (), **options: Any) -> Any:
    """The body of the request for these options of the sidecar."""
    settings = UpstreamProvider(kind=kind, base_url="http://u", accepts=list(accepts))
    wish = wish_of({"messages": HELLO, **options}, assumed, settings.honoured, "u", ranks=False)
    module = openai_request if kind == "openai" else anthropic_request
    return module.body_of(settings, "big", wish, "u")


def refused(kind: Kind, **options: Any) -> Any:
    """The parameter for which a request is refused."""
    try:
        sent(kind, **options)
    except Refused as error:
        return error.fault.param
    except UnsupportedParameter as error:
        return error.details["name"]
    return pytest.fail("it was not refused")


def test_a_chat_with_tools_is_told_in_openai_s_words() -> None:
    body = sent(
        "openai",
        messages=CHAT,
        tools=TOOLS,
        tool_choice={"name": "f"},
        parallel_tool_calls=False,
        max_tokens=9,
        stop=["x"],
        seed=3,
        temperature=0.5,
        priority="low",
        template_args={"reasoning_effort": "low"},
    )
    assert body["stream_options"] == {"include_usage": True}
    assert body["max_completion_tokens"] == 9
    assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert body["tools"] == TOOLS
    assert (body["parallel_tool_calls"], body["stop"], body["seed"], body["temperature"]) == (False, ["x"], 3, 0.5)
    assert body["reasoning_effort"] == "low"
    schema = {"name": "answer", "schema": PARAMETERS, "strict": True}
    body_with_form = sent("openai", response_format={"type": "json_schema", "schema": PARAMETERS})
    assert body_with_form["response_format"] == {"type": "json_schema", "json_schema": schema}
    assert body["messages"][3] == {"role": "assistant", "content": None, "tool_calls": CHAT[3]["tool_calls"]}
    assert body["messages"][4] == {"role": "tool", "tool_call_id": "c1", "content": "2"}
    assert not {"priority", "template_args"} & body.keys()
    assert sent("openai", messages=CHAT, accepts=("reasoning_content",))["messages"][3]["reasoning_content"] == "hm"


def test_a_chat_with_tools_is_told_in_anthropic_s_words() -> None:
    body = sent(
        "anthropic",
        messages=CHAT,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        stop=["x"],
        top_k=5,
        reasoning_budget=100,
    )
    assert body["max_tokens"] == 8192
    assert body["system"] == "be brief\n\nand kind"
    assert body["tools"] == [{"name": "f", "description": "d", "input_schema": PARAMETERS}]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert (body["stop_sequences"], body["top_k"]) == (["x"], 5)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 100}
    form = {"type": "json_schema", "json_schema": {"schema": PARAMETERS}}
    config = sent("anthropic", response_format=form)["output_config"]
    assert config == {"format": {"type": "json_schema", "schema": PARAMETERS}}
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
    ]
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "2", "is_error": True}
    assert body["messages"][2]["content"] == [result, {"type": "text", "text": "well?"}]


@pytest.mark.parametrize(
    ("args", "openai", "anthropic"),
    [
        ({"enable_thinking": False}, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            {"enable_thinking": False, "reasoning_effort": "none"},
            {"reasoning_effort": "none"},
            {"thinking": {"type": "disabled"}},
        ),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}, {"output_config": {"effort": "high"}}),
        ({"enable_thinking": True}, None, {"thinking": {"type": "adaptive"}}),
        ({"style": "short"}, None, None),
    ],
)
def test_a_wish_for_reasoning_is_told_or_refused(args: Any, openai: Any, anthropic: Any) -> None:
    kinds: list[tuple[Kind, Any]] = [("openai", openai), ("anthropic", anthropic)]
    for kind, told in kinds:
        if told is None:
            assert refused(kind, template_args=args) == "template_args"
        else:
            assert sent(kind, template_args=args) == {**sent(kind), **told}
    body = sent("openai", template_args=args, accepts=("template_args",))
    rest = {name: value for name, value in args.items() if name != "reasoning_effort"}
    assert body.get("chat_template_kwargs", {}) == rest


@both
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"logprobs": 0}, "logprobs"),
        ({"min_p": 0.5}, "min_p"),
        ({"adapter": "mine"}, "adapter"),
        ({"explain_cache": True}, "explain_cache"),
        ({"context_overflow": "drop_oldest"}, "context_overflow"),
        ({"response_format": {"type": "choice", "choices": ["a"]}}, "response_format"),
        ({"tool_format": "hermes"}, "tool_format"),
        ({"escape_special": True}, "escape_special"),
    ],
)
def test_what_has_no_place_is_refused_by_its_name(kind: Kind, options: dict[str, Any], name: str) -> None:
    assert refused(kind, **options) == name


def test_what_only_one_of_them_has_a_place_for_is_refused_by_the_other() -> None:
    assert refused("anthropic", seed=1) == "seed"
    assert refused("anthropic", temperature=1.5) == "temperature"
    assert refused("anthropic", response_format={"type": "json_object"}) == "response_format"
    assert refused("openai", top_k=3) == "top_k"
    assert refused("openai", reasoning_budget=3) == "reasoning_budget"
    assert refused("anthropic", messages=[*HELLO, {"role": "system", "content": "now"}]) == "messages.1.role"


@both
def test_what_changes_nothing_and_what_was_assumed_is_left_out(kind: Kind) -> None:
    neutral: dict[str, Any] = {
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1,
        "logit_bias": {},
        "speculation": False,
    }
    assert sent(kind, **neutral) == sent(kind)
    assert sent(kind, frozenset({"top_k", "max_tokens"}), top_k=40, max_tokens=16) == sent(kind)


@both
def test_a_value_that_the_sidecar_would_refuse_is_refused_by_its_name(kind: Kind) -> None:
    with pytest.raises(RpcError) as caught:
        sent(kind, temperature="hot")
    assert caught.value.kind == "invalid_params"
    assert caught.value.details["errors"][0]["loc"] == ["temperature"]


# Answers.


def read(kind: Kind, body: bytes, cuts: list[int]) -> tuple[list[dict[str, Any]], GenerateResult]:
    """The deltas and the result of an answer that comes in these pieces. Raises ``Malformed``."""
    gathered, decoder = Gathered(), EventDecoder(2**16)
    answer: Any = OpenAIAnswer(gathered) if kind == "openai" else AnthropicAnswer(gathered)
    deltas = []
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for begin, end in pairwise(places):
        for event in decoder.feed(body[begin:end]):
            deltas += list(answer.take(event))
    return deltas, answer.result()


@both
@given(cuts=st.lists(st.integers(0, 10**6), max_size=12), newline=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_an_answer_in_any_pieces_is_the_same(kind: Kind, cuts: list[int], newline: bytes) -> None:
    deltas, result = read(kind, b"".join(EVENTS[kind]()).replace(b"\n", newline), cuts)
    assert "".join(delta["text"] for delta in deltas) == result.text == TEXT
    assert "".join(delta.get("reasoning", "") for delta in deltas) == result.reasoning == REASONING
    calls = [part for delta in deltas for part in delta.get("tool_calls", ())]
    assert [(part["id"], part["name"]) for part in calls if "id" in part] == [("c1", CALL[0])]
    assert "".join(part.get("arguments", "") for part in calls) == CALL[1]
    assert result.tool_calls is not None
    assert result.tool_calls[0].arguments == CALL[1]
    assert result.finish_reason == "tool_calls"
    assert (result.usage.prompt_tokens, result.usage.cached_tokens, result.usage.completion_tokens) == (11, 4, 7)


@both
@given(length=st.floats(0, 0.9999))
def test_no_beginning_of_an_answer_is_taken_for_a_whole_one(kind: Kind, length: float) -> None:
    body = b"".join(EVENTS[kind]())
    with pytest.raises(Malformed):
        read(kind, body[: int(length * len(body))], [])


@both
@given(data=st.data())
def test_an_answer_with_any_bytes_changed_is_read_or_refused(kind: Kind, data: st.DataObject) -> None:
    body = bytearray(b"".join(EVENTS[kind]()))
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Malformed, Refused):
        read(kind, bytes(body), [])


@both
@given(body=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=4))
def test_bytes_that_are_no_answer_are_refused(kind: Kind, body: bytes, cuts: list[int]) -> None:
    with pytest.raises(Malformed):
        read(kind, body, cuts)


@both
def test_an_answer_without_usage_is_not_whole(kind: Kind) -> None:
    with pytest.raises(Malformed, match="usage"):
        read(kind, b"".join(EVENTS[kind](usage=False)), [])


def test_a_call_without_arguments_has_an_empty_object_unless_it_was_cut_off() -> None:
    events = EVENTS["anthropic"]()
    without = [event for event in events if b"input_json_delta" not in event]
    _, result = read("anthropic", b"".join(without), [])
    assert result.tool_calls is not None
    assert result.tool_calls[0].arguments == "{}"
    cut = b"".join(without).replace(b'"tool_use", "stop_sequence"', b'"max_tokens", "stop_sequence"')
    _, result = read("anthropic", cut, [])
    assert (result.finish_reason, result.tool_calls) == ("length", None)
    assert result.incomplete_tool_calls is not None


def test_openai_s_calls_may_share_an_index_or_come_without_ids() -> None:
    def call(**members: Any) -> bytes:
        choice = {"index": 0, "delta": {"tool_calls": [members]}}
        return b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()

    end = EVENTS["openai"]()[-3:]
    first = call(index=0, id="a", function={"name": "f", "arguments": "{}"})
    second = call(index=0, id="b", function={"name": "g", "arguments": '{"a": 1}'})
    third = call(index=1, function={"name": "h"})
    _, result = read("openai", b"".join([first, second, third, *end]), [])
    assert result.tool_calls is not None
    assert [(each.name, each.arguments) for each in result.tool_calls] == [("f", "{}"), ("g", '{"a": 1}'), ("h", "{}")]
    assert len({each.id for each in result.tool_calls}) == 3
    mixed = call(index=0, function={"arguments": "{}"})
    with pytest.raises(Malformed):
        read("openai", b"".join([first, third, mixed, *end]), [])


@pytest.mark.parametrize(
    ("kind", "old", "new"), [("openai", b'"stop"', b'"content_filter"'), ("anthropic", b'"end_turn"', b'"refusal"')]
)
def test_an_answer_that_a_filter_cut_off_is_no_whole_one(kind: Kind, old: bytes, new: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read(kind, b"".join(EVENTS[kind](calls=False)).replace(old, new), [])
    assert caught.value.fault.kind == "content_filtered"

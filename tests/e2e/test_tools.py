"""Reasoning and calls of real processes: engines killed in the middle, real templates, and the turn that follows."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import Frame
from tests.support.sidecar import Sidecar, sidecar
from tests.support.streamed import assert_same, assert_whole

SMOLLM2 = Path(__file__).parents[2] / ".venv" / "models" / "smollm2-4bit"
LOOK = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Looks out.", "parameters": LOOK}}]
CHAT = [{"role": "user", "content": "How is the weather in Bern?"}]
ANSWER = (
    "<think>\nIt is about Bern.\n</think>\n\nI shall look.\n"
    '<tool_call>\n{"name": "look", "arguments": {"city": "Bern, the city with the bears"}}\n</tool_call>'
)


def assert_killed_in(channel: str, process: Sidecar, params: Frame, undisturbed: Frame) -> None:
    """The engine is killed while the host holds the first delta of ``channel``; the answer is the undisturbed one."""
    id_ = process.request("generate", {**params, "stream": channel, "window": 1})
    killed, seq = False, 0
    while "result" not in (frame := process.wait_for(next_of(id_, channel, seq))):
        if channel in frame["params"] and not killed:
            process.end_engine(signal.SIGKILL)
            killed = True
        process.notify("stream/ack", {"stream": channel, "seq": seq})
        seq += 1
    assert killed
    assert process.notification("stream/interrupted", stream=channel)
    assert_whole(process.deltas(channel), frame["result"])
    assert_same(frame["result"], undisturbed)
    assert frame["result"]["usage"]["reasoning_tokens"] == undisturbed["usage"]["reasoning_tokens"]


def next_of(id_: Any, stream: str, seq: int) -> Any:
    wanted = {"stream": stream, "seq": seq}
    return lambda frame: (
        ("method" not in frame and frame.get("id") == id_)
        or (frame.get("method") == "stream/delta" and wanted.items() <= frame["params"].items())
    )


def test_an_engine_that_is_killed_in_reasoning_or_in_a_call_costs_neither_anything() -> None:
    params = {"model": f"fake?delay_ms=2&text={ANSWER}", "messages": CHAT, "tools": TOOLS, "seed": 1}
    with sidecar("--engine", "fake") as process:
        process.initialize()
        undisturbed = process.call("generate", params)
        assert undisturbed["finish_reason"] == "tool_calls"
        for channel in ("reasoning", "tool_calls"):
            assert_killed_in(channel, process, params, undisturbed)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "seed": 11}], ids=["greedy", "seeded"])
def test_a_real_model_that_is_killed_while_it_reasons_goes_on_with_the_same_thought(sampling: Frame) -> None:
    params = {
        "model": "pocket",
        "messages": CHAT,
        "tools": TOOLS,
        "template_args": {"enable_thinking": True},
        "max_tokens": 1500,
        "ignore_eos": True,
        **sampling,
    }
    with sidecar("--numerics", "exact") as process:
        process.initialize()
        [end] = process.call("tokenize", {"model": "pocket", "text": "</think>"})["tokens"]
        params["logit_bias"] = {str(end): -100.0}  # it reasons to its end, so it is killed in the middle of that
        undisturbed = process.call("generate", params)
        assert (undisturbed["text"], undisturbed["usage"]["reasoning_tokens"]) == ("", 1500)
        assert_killed_in("reasoning", process, params, undisturbed)


def test_the_card_of_a_real_model_tells_what_its_template_tells(shared: Sidecar) -> None:
    card = shared.call("load", {"model": "pocket"})
    assert (card["tool_format"], card["reasoning"]) == ("hermes", True)
    [listed] = [each for each in shared.call("models")["models"] if each["model"] == "pocket"]
    assert (listed["tool_format"], listed["reasoning"]) == ("hermes", True)


@pytest.mark.parametrize("thinking", [True, False, None])
def test_reasoning_that_the_prompt_opens_is_reasoning_from_the_first_token_on(
    shared: Sidecar, thinking: bool | None
) -> None:
    arguments = {} if thinking is None else {"enable_thinking": thinking}
    params = {"model": "pocket", "messages": CHAT, "template_args": arguments, "max_tokens": 12, "ignore_eos": True}
    raw, parsed = shared.call("generate", {**params, "output": "raw"}), shared.call("generate", params)
    assert parsed["tokens"] == raw["tokens"]
    if thinking:
        assert parsed["reasoning"] == raw["text"].partition("</think>")[0]
        assert parsed["usage"]["reasoning_tokens"] > 0
    else:
        assert parsed["text"].strip() in raw["text"]


@pytest.mark.parametrize("name", ["pocket", "SmolLM2"])
@pytest.mark.parametrize("reasoning", [{}, {"reasoning_content": "It is about Bern."}], ids=["plain", "reasoned"])
def test_the_calls_of_an_answer_go_back_through_a_real_template_in_our_shape_and_in_openais(
    shared: Sidecar, name: str, reasoning: Frame
) -> None:
    if name == "SmolLM2" and not SMOLLM2.exists():
        pytest.skip("the model is not here")
    function = {"name": "look", "arguments": json.dumps({"city": "Bern"})}
    flat = {"id": "abcdefghi", **function}
    nested = {"id": "abcdefghi", "type": "function", "function": function}
    told = {"role": "tool", "tool_call_id": "abcdefghi", "content": "Rain."}
    model = "pocket" if name == "pocket" else str(SMOLLM2)
    ours, openais = (
        shared.call(
            "render",
            {
                "model": model,
                "tools": TOOLS,
                "messages": [*CHAT, {"role": "assistant", "content": "", **reasoning, "tool_calls": [call]}, told],
            },
        )
        for call in (flat, nested)
    )
    assert ours == openais
    if name == "pocket":
        assert '{"name": "look", "arguments": {"city": "Bern"}}' in ours["text"]
        assert bool(reasoning) == ("It is about Bern." in ours["text"])

"""Answers as the sidecar gives them: events, and the result that they add up to."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_gateway.surfaces.events import Delta, Reasoning, Text, ToolArguments, ToolStart

TEXT_LOGPROB = {"token": 7, "text": "é", "logprob": -0.5, "top": [{"token": 8, "text": "e", "logprob": None}]}

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
arguments = st.dictionaries(texts, st.none() | st.booleans() | st.integers(-9, 9) | texts, max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Delta], GenerateResult]:
    """The events of a whole answer in which reasoning comes first, then text, then calls, each in pieces."""
    reasoning, said = draw(st.lists(texts, max_size=3)), draw(st.lists(texts, max_size=3))
    events: list[Delta] = [*map(Reasoning, reasoning), *map(Text, said)]
    calls = []
    for index, value in enumerate(draw(st.lists(arguments, max_size=3))):
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
        at = draw(st.integers(0, len(text)))
        events += [ToolStart(index, f"call{index}", "f")]
        events += [ToolArguments(index, part) for part in (text[:at], text[at:]) if part]
        calls.append({"id": f"call{index}", "name": "f", "arguments": text})
    reason = "tool_calls" if calls else draw(st.sampled_from(["stop", "length"]))
    return events, result(reason, text="".join(said), reasoning="".join(reasoning) or None, tool_calls=calls or None)


@st.composite
def deltas(draw: st.DrawFn) -> list[Delta]:
    """Reasoning, text and calls in any order, each in pieces; arguments may be cut off anywhere."""
    events: list[Delta] = []
    for number in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["reasoning", "text", "call"]))
        pieces = draw(st.lists(texts, min_size=1, max_size=3))
        if kind == "call":
            events.append(ToolStart(number, f"call{number}", "f"))
            whole = json.dumps(draw(arguments))
            pieces = [piece for piece in (whole[: draw(st.integers(0, len(whole)))], *pieces[1:]) if piece]
            events += [ToolArguments(number, piece) for piece in pieces]
        else:
            events += [(Reasoning if kind == "reasoning" else Text)(piece) for piece in pieces]
    return events


def result(reason: str = "stop", *, tokens: tuple[int, int, int] = (9, 4, 5), **more: Any) -> GenerateResult:
    """A result; ``tokens`` are those of the prompt, cached ones of them, and those of the answer."""
    prompt, cached, completion = tokens
    usage = {
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "cached_by_tier": {"ram": cached, "disk": 0},
        "completion_tokens": completion,
        "reasoning_tokens": 2,
    }
    timing = {"queue_s": 0.25, "load_s": 0.5, "prefill_s": 1.0, "first_token_s": 1.75, "decode_s": 2.0}
    body = {"finish_reason": reason, "usage": usage, "timing": timing, "seed": 1, "text": "", **more}
    return GenerateResult.model_validate({name: value for name, value in body.items() if value is not None})

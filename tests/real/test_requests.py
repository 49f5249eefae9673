"""What a host does with a model, done with a real one, all defaults left alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.sidecar import Sidecar

from .asking import QUESTIONS, alone, chat, said, together

pytestmark = pytest.mark.real


def test_a_chat_is_answered(real_sidecar: Sidecar, model: Path) -> None:
    result = real_sidecar.call(
        "generate", {"model": str(model), **chat("What is the capital of France?", max_tokens=32)}
    )
    assert "Paris" in result["text"]
    assert result["finish_reason"] == "stop"  # the model's own end of turn, which is no text
    assert "<|im_end|>" not in result["text"]


def test_a_prompt_is_gone_on_with(real_sidecar: Sidecar, model: Path) -> None:
    result = real_sidecar.call(
        "generate", {"model": str(model), "prompt": "one two three four five six seven", "max_tokens": 3}
    )
    assert result["text"] == " eight nine ten"
    assert (result["finish_reason"], result["usage"]["completion_tokens"]) == ("length", 3)


def test_eight_chats_at_once_are_answered_as_each_alone(real_sidecar: Sidecar, model: Path) -> None:
    requests = [chat(question, max_tokens=4) for question in QUESTIONS]
    assert said(together(real_sidecar, str(model), requests)) == said(alone(real_sidecar, str(model), requests))


def test_a_seed_gives_the_same_text_alone_and_among_others(real_sidecar: Sidecar, model: Path) -> None:
    sampled = [chat(QUESTIONS[0], temperature=0.9, top_p=0.95, seed=seed, max_tokens=5) for seed in (1, 1, 2)]
    others = [chat(question, temperature=1.2, top_k=40, max_tokens=5) for question in QUESTIONS[1:4]]
    among_others = together(real_sidecar, str(model), [*sampled, *others])[: len(sampled)]
    first, again, other = said(among_others)
    assert first == again != other
    assert said(among_others) == said(alone(real_sidecar, str(model), sampled))


def test_the_next_turn_of_a_chat_is_computed_from_what_is_known_and_answered_as_if_nothing_was(
    real_sidecar: Sidecar, model: Path
) -> None:
    rules = "You are a careful assistant. " + "Answer briefly, in plain words, and only what was asked. " * 5
    messages = [{"role": "system", "content": rules}, {"role": "user", "content": QUESTIONS[0]}]
    options = {"model": str(model), "max_tokens": 4}
    real_sidecar.call("cache/clear", {"model": str(model)})
    first = real_sidecar.call("generate", {**options, "messages": messages})
    assert first["usage"]["cached_tokens"] == 0
    messages += [{"role": "assistant", "content": first["text"]}, {"role": "user", "content": "And of Italy?"}]
    warm = real_sidecar.call("generate", {**options, "messages": messages})
    assert warm["usage"]["cached_tokens"] >= 64
    (cold,) = alone(real_sidecar, str(model), [{"messages": messages, "max_tokens": 4}])
    assert cold["usage"]["cached_tokens"] == 0
    assert said([warm]) == said([cold])


@pytest.mark.parametrize(("stop", "text"), [(" ten", " eight nine"), ("ht ni", " eig")])
def test_a_stop_string_ends_the_text_before_it_wherever_tokens_are_cut(
    real_sidecar: Sidecar, model: Path, stop: str, text: str
) -> None:
    params = {"prompt": "one two three four five six seven", "stop": ["never said", stop], "max_tokens": 8}
    result = real_sidecar.call("generate", {"model": str(model), **params})
    assert (result["text"], result["finish_reason"], result["stop_match"]) == (text, "stop", stop)


def test_an_engine_killed_in_the_middle_costs_a_pause_and_no_token(real_sidecar: Sidecar, model: Path) -> None:
    greedy = {"model": str(model), **chat(QUESTIONS[3], max_tokens=8)}
    sampled = {"model": str(model), **chat(QUESTIONS[3], max_tokens=8, temperature=0.9, seed=5)}
    undisturbed = [real_sidecar.call("generate", params) for params in (greedy, sampled)]
    ids = [
        real_sidecar.request("generate", {**params, "stream": f"s{n}"}) for n, params in enumerate((greedy, sampled))
    ]
    for n in range(len(ids)):
        real_sidecar.notification("stream/delta", stream=f"s{n}", seq=1)
    os.kill(real_sidecar.call("stats")["engine"]["pid"], signal.SIGKILL)
    results = [real_sidecar.result(id_) for id_ in ids]
    assert said(results) == said(undisturbed)
    for n, result in enumerate(results):
        real_sidecar.notification("stream/interrupted", stream=f"s{n}")
        assert "".join(delta["text"] for delta in real_sidecar.deltas(f"s{n}")) == result["text"]

"""The common requests of a host work on a real model with all defaults."""

from __future__ import annotations

import os
import signal
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.support.host import Frame
from tests.support.sidecar import Sidecar

from .asking import QUESTIONS, alone, chat, said, together

pytestmark = pytest.mark.real

SEEDS = (1, 1, 2, 3)


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


@pytest.fixture(scope="module")
def eight(real_sidecar: Sidecar, model: Path) -> tuple[list[Frame], list[Frame]]:
    """Return eight chats at once, half of them sampled, and the same eight one by one."""
    requests = [chat(question, max_tokens=4) for question in QUESTIONS]
    sampled = [chat(QUESTIONS[0], max_tokens=4, temperature=0.9, top_p=0.95, seed=seed) for seed in SEEDS]
    requests = [*requests, *sampled]
    return together(real_sidecar, str(model), requests), alone(real_sidecar, str(model), requests)


def test_eight_chats_at_once_are_answered_as_each_alone(eight: tuple[list[Frame], list[Frame]]) -> None:
    at_once, one_by_one = eight
    assert said(at_once) == said(one_by_one)


def test_a_seed_gives_the_same_text_each_time_and_another_seed_another(eight: tuple[list[Frame], list[Frame]]) -> None:
    first, again, other, _ = said(eight[0])[-len(SEEDS) :]
    assert first == again
    assert first != other


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
    greedy = chat(QUESTIONS[2])
    sampled = chat(QUESTIONS[2], temperature=0.9, seed=5)
    undisturbed = together(real_sidecar, str(model), [greedy, sampled])
    pid = real_sidecar.engine_pid()
    # The window holds the stream in its middle until the engine is gone.
    streamed = real_sidecar.request("generate", {"model": str(model), **greedy, "stream": "s", "window": 1})
    silent = real_sidecar.request("generate", {"model": str(model), **sampled})
    real_sidecar.notification("stream/delta", stream="s")
    os.kill(pid, signal.SIGKILL)
    real_sidecar.notification("stream/interrupted", stream="s")
    acknowledge_all(real_sidecar, "s", streamed)
    results = [real_sidecar.result(id_) for id_ in (streamed, silent)]
    assert said(results) == said(undisturbed)
    assert "".join(delta["text"] for delta in real_sidecar.deltas("s")) == results[0]["text"]


def acknowledge_all(process: Sidecar, stream: str, id_: int) -> None:
    """Acknowledge each delta of ``stream`` as it comes, until the request ``id_`` is answered."""
    for seq in count():
        if "id" in process.wait_for(partial(is_answer_or_delta, id_, {"stream": stream, "seq": seq})):
            return
        process.call("stream/ack", {"stream": stream, "seq": seq})


def is_answer_or_delta(id_: int, delta: Frame, frame: Frame) -> bool:
    return frame.get("id") == id_ or delta.items() <= frame.get("params", {}).items()

"""Sessions on the real engine, with the embedded model: warm is cold, and no turn before is computed again."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.sidecar import Sidecar, sidecar

SYSTEM = {"role": "system", "content": "You answer questions about mlx-sidecar. Be brief."}
QUESTIONS = ("How do I cancel a stream?", "And how do I load a model?", "What is a window?")


@pytest.fixture(scope="module")
def exact() -> Any:
    with sidecar("--numerics", "exact") as process:
        yield process


def opened(process: Sidecar) -> str:
    session: str = process.call("session/open", {"model": "pocket", "messages": [SYSTEM]})["session"]
    return session


def ask(process: Sidecar, session: str, text: str, **params: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return process.call("generate", {"session": session, "messages": messages, "max_tokens": 60, **params})


def test_a_turn_computes_what_is_new_and_nothing_of_the_turns_before(exact: Sidecar) -> None:
    session = opened(exact)
    before = ask(exact, session, QUESTIONS[0])
    for question in QUESTIONS[1:]:
        after = ask(exact, session, question)
        known = before["usage"]["prompt_tokens"] + before["usage"]["completion_tokens"]
        assert after["usage"]["cached_tokens"] >= known - 1  # the last token's keys and values were never computed
        before = after


@pytest.mark.parametrize("forget", [False, True], ids=["warm", "cold"])
def test_other_words_after_a_rollback_have_the_answer_of_a_chat_that_never_went_astray(
    exact: Sidecar, forget: bool
) -> None:
    how = {"temperature": 0.8, "seed": 7, "logprobs": 0}
    straight, astray = opened(exact), opened(exact)
    first = [ask(exact, session, QUESTIONS[0], **how) for session in (straight, astray)]
    assert first[0]["tokens"] == first[1]["tokens"]
    ask(exact, astray, QUESTIONS[1], **how)
    ask(exact, astray, QUESTIONS[2], **how)
    exact.call("session/rollback", {"session": astray, "to": first[1]["turn"]})
    results = []
    for session in (astray, straight):
        if forget:
            exact.call("cache/clear")
        results.append(ask(exact, session, "Something else.", **how))
    assert results[0]["tokens"] == results[1]["tokens"]
    assert results[0]["logprobs"] == results[1]["logprobs"]


def test_a_fork_copies_nothing_and_its_first_token_is_a_warm_hit(exact: Sidecar) -> None:
    session = opened(exact)
    ask(exact, session, QUESTIONS[0])
    before = exact.call("cache/stats")["ram"]
    fork = exact.call("session/fork", {"session": session})["session"]
    assert exact.call("cache/stats")["ram"] == before
    result = ask(exact, fork, QUESTIONS[1])
    new = 20
    assert result["usage"]["prompt_tokens"] - result["usage"]["cached_tokens"] < new


def test_a_chat_goes_on_with_the_same_words_when_the_engine_died_between_its_turns() -> None:
    with sidecar("--numerics", "exact") as process:
        process.initialize()
        session = opened(process)
        ask(process, session, QUESTIONS[0])
        fork = process.call("session/fork", {"session": session})["session"]
        undisturbed = ask(process, session, QUESTIONS[1])
        process.end_engine(signal.SIGKILL)
        assert ask(process, fork, QUESTIONS[1])["tokens"] == undisturbed["tokens"]


def test_a_session_of_a_file_continues_on_another_sidecar(exact: Sidecar, tmp_path: Path) -> None:
    path = str(tmp_path / "chat.session")
    session = opened(exact)
    ask(exact, session, QUESTIONS[0])
    exact.call("session/export", {"session": session, "path": path})
    undisturbed = ask(exact, session, QUESTIONS[1])
    with sidecar("--numerics", "exact") as other:
        read = other.call("session/import", {"path": path})["session"]
        assert ask(other, read, QUESTIONS[1])["tokens"] == undisturbed["tokens"]


def test_a_template_that_leaves_reasoning_out_of_history_costs_a_session_nothing(exact: Sidecar) -> None:
    session = opened(exact)
    messages = [{"role": "user", "content": "How do I cancel a stream?"}]
    asked = {"session": session, "messages": messages, "max_tokens": 40}
    first = exact.call("generate", {**asked, "logit_bias": _first_token(exact, "<think>")})
    known = first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"]
    second = ask(exact, session, QUESTIONS[1])
    assert second["rendered_differs"]
    assert second["usage"]["cached_tokens"] >= known - 1
    third = ask(exact, session, QUESTIONS[1], at=first["turn"], render="template")
    assert not third["rendered_differs"]
    assert third["usage"]["prompt_tokens"] < second["usage"]["prompt_tokens"]


def _first_token(process: Sidecar, text: str) -> dict[str, float]:
    """A bias with which an answer consists of one token, again and again."""
    [token] = process.call("tokenize", {"model": "pocket", "text": text, "add_special": False})["tokens"]
    return {str(token): 100.0}

"""Sequences whose reasoning has a budget wait for nothing but a vocabulary, and their reasoning ends at it."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import closing

import pytest
from msgspec.structs import replace

from mlx_sidecar.engine.grammar import grammars as module
from mlx_sidecar.engine.resident_models import LoadedModel, LoadStep
from mlx_sidecar.link.control_messages import Load
from mlx_sidecar.link.messages import Constraint, Effort, Generate, Sampling, Speculation, Submit, Tokens
from mlx_sidecar.link.reasoning import ReasoningBudget
from tests.engine.grammar.vocabularies import END
from tests.engine.inline import FaultyBackend, Inline

STOP = b"</think>"
THOUGHT = b"one two three</think>four"
SAID = "fake?text=" + "".join(f"%{byte:02x}" for byte in THOUGHT)
FORM = r"""start: thought gap answer
thought[lazy]: /(.|\n)*<\/think>/
gap: /[ \n]{0,4}/
answer: %json {"type": "array", "items": {"type": "integer"}, "maxItems": 3}
"""


@pytest.fixture
def engine() -> Iterator[Inline]:
    with closing(Inline(1 << 30)) as inline:
        inline.load(SAID)
        yield inline


def submit(
    engine: Inline,
    seq: int,
    tokens: int,
    answered: bytes = b"",
    grammar: str = "",
    stop_tokens: tuple[int, ...] = (END,),
    max_tokens: int = 40,
    end: bytes = STOP,
) -> None:
    budget = ReasoningBudget(b"<think>", end, thinking=True, tokens=tokens)
    goal = Generate(
        Sampling(logprobs=1),
        list(stop_tokens),
        max_tokens,
        emitted=len(answered),
        constraint=Constraint(grammar, [END], budget),
        speculation=Speculation(),
    )
    engine.send(Submit(seq, SAID, [1, *answered], goal))


def answer(engine: Inline, seq: int) -> bytes:
    engine.until(lambda: engine.ended(seq))
    return bytes(engine.tokens(seq))


@pytest.mark.parametrize("tokens", [13, 14, 10_000])
def test_reasoning_within_its_budget_is_left_alone(engine: Inline, tokens: int) -> None:
    submit(engine, 1, tokens)
    assert answer(engine, 1) == THOUGHT
    end = engine.finished(1)
    assert (end.reason, end.stop_token, end.complete) == ("stop", END, None)


@pytest.mark.parametrize("tokens", range(13))
def test_reasoning_ends_at_its_budget(engine: Inline, tokens: int) -> None:
    submit(engine, 1, tokens)
    text = answer(engine, 1)
    assert text[: tokens + len(STOP)] == THOUGHT[:tokens] + STOP
    assert text[tokens + len(STOP) :] == THOUGHT[tokens + len(STOP) :]  # the script goes on where it is
    efforts = [message.effort for message in engine.seen if isinstance(message, Tokens) and message.effort]
    assert Effort(forced=len(STOP)) in efforts


@pytest.mark.parametrize("grammar", ["", FORM])
def test_an_answer_goes_on_after_a_restart_as_if_there_had_been_none(engine: Inline, grammar: str) -> None:
    submit(engine, 1, 5, grammar=grammar)
    whole = answer(engine, 1)
    for cut in range(len(whole) + 1):
        submit(engine, cut + 2, 5, answered=whole[:cut], grammar=grammar)
        assert answer(engine, cut + 2) == whole[cut:]


@pytest.mark.parametrize("tokens", [0, 1, 7, 100])
def test_a_form_follows_the_end_of_reasoning(engine: Inline, tokens: int) -> None:
    submit(engine, 1, tokens, grammar=FORM)
    reasoning, _, rest = answer(engine, 1).partition(STOP)
    assert reasoning == THOUGHT.partition(STOP)[0][:tokens]
    assert isinstance(json.loads(rest), list)
    assert engine.finished(1).complete


def test_where_the_end_of_the_turn_is_ignored_reasoning_is_bounded_all_the_same(engine: Inline) -> None:
    submit(engine, 1, 30, stop_tokens=(), max_tokens=60, end=b"</stop>")
    text = answer(engine, 1)
    assert text[:37] == THOUGHT + b" " + THOUGHT[:4] + b"</stop>"
    assert engine.finished(1).reason == "length"


def test_a_budget_needs_no_library(engine: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "unavailable", lambda: "it is not there")
    submit(engine, 1, 3)
    assert answer(engine, 1).startswith(b"one</think>")


def test_an_end_that_no_tokens_spell_refuses_the_budget_by_name() -> None:
    class Few(FaultyBackend):
        """Has no token for most bytes."""

        def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
            loaded = yield from super().load(load)
            return loaded._replace(card=replace(loaded.card, vocabulary=50))

    with closing(Inline(1 << 30, backend=Few())) as engine:
        engine.load(SAID)
        submit(engine, 1, 3)
        engine.until(lambda: engine.ended(1))
        fault = engine.finished(1).fault
        assert fault is not None
        assert (fault.kind, fault.details["name"]) == ("unsupported_parameter", "reasoning_budget")

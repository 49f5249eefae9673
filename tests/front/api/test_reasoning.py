"""A budget of reasoning becomes a part of the engine's constraint, or is refused by its name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlx_sidecar.front.api.fake_text import FakeText
from mlx_sidecar.front.api.model_text import ModelText
from mlx_sidecar.front.api.parsing import Parsing, parsing_of
from mlx_sidecar.front.api.reasoning import Constrained, with_budget
from mlx_sidecar.front.output.formats.table import REASONING_FORMATS, OutputFormats
from mlx_sidecar.front.output.vocabulary_bytes import VocabularyBytes
from mlx_sidecar.link.messages import Constraint, Vocabulary
from mlx_sidecar.link.reasoning import ReasoningBudget
from mlx_sidecar.link.token_table import ByteLevel, Strings, TokenTable, packed
from mlx_sidecar_protocol.errors import UnsupportedParameter
from mlx_sidecar_protocol.generate import GenerateParams

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Well?"}]}
FORM = (Constraint("start: /a/", [7]), Vocabulary("m", b"", b"", b""))


class Marked(FakeText):
    """A model whose markers of reasoning are special tokens, beside others that are not shown."""

    def __init__(self, formats: OutputFormats) -> None:
        super().__init__()
        strings = ["a", "<seed:think>", "</seed:think>", "<|end|>", "<|channel|>", "<other>"]
        self.table = TokenTable(packed(range(6)), Strings.of(strings), packed(range(1, 6)), ByteLevel())
        self.formats = formats


class Opaque(FakeText):
    """A model of whose tokens only the tokenizer knows the bytes."""

    def vocabulary_bytes(self) -> VocabularyBytes | None:
        return None


SEED = Marked(OutputFormats(None, REASONING_FORMATS[0]))


def budgeted(
    text: ModelText, prompt: str = "", constrained: Constrained | None = None, **params: Any
) -> Constrained | None:
    asked = GenerateParams.model_validate({**CHAT, "reasoning_budget": 5, **params})

    async def ask() -> Constrained | None:
        parsing, _ = await parsing_of(asked, text, list(prompt.encode()))
        return await with_budget(constrained, asked, text, parsing)

    return asyncio.run(ask())


def budget_of(constrained: Constrained | None) -> ReasoningBudget:
    assert constrained is not None
    budget = constrained[0].budget
    assert budget is not None
    return budget


@pytest.mark.parametrize("constrained", [None, FORM])
def test_without_a_budget_nothing_is_constrained_that_was_not(constrained: Constrained | None) -> None:
    assert budgeted(FakeText(), "", constrained, reasoning_budget=None) is constrained


def test_a_form_keeps_its_grammar_and_a_free_answer_gets_none() -> None:
    held, free = budgeted(FakeText(), "", FORM), budgeted(FakeText())
    assert held is not None
    assert free is not None
    assert (held[0].grammar, held[0].end_tokens, held[1]) == ("start: /a/", [7], FORM[1])
    assert (free[0].grammar, free[1].model) == ("", "m")
    assert budget_of(held) == budget_of(free) == ReasoningBudget(b"<think>", b"</think>", thinking=False, tokens=5)


@pytest.mark.parametrize(("prompt", "thinking"), [("<think>\n", True), ("<think>\n\n</think>\n\n", False), ("", False)])
def test_reasoning_that_the_prompt_opened_counts_from_the_beginning(prompt: str, thinking: bool) -> None:
    assert budget_of(budgeted(FakeText(), prompt)).thinking == thinking


def test_markers_that_are_special_tokens_count_as_text_and_others_do_not() -> None:
    assert budget_of(budgeted(SEED)).shown == [1, 2]


def test_a_channel_may_be_opened_several_times() -> None:
    budget = budget_of(budgeted(SEED, tool_format="harmony"))
    assert (budget.begin, budget.end) == (b"<|channel|>analysis<|message|>", b"<|end|>")
    assert (budget.anywhere, budget.thinking) == (True, False)
    assert (budget.fork, budget.instead) == (b"<|channel|>", [b"commentary", b"final"])
    assert {3, 4} <= set(budget.shown)


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (Marked(OutputFormats()), "its chat template does not tell how it writes reasoning"),
        (Opaque(), "only the model's tokenizer can tell the bytes of its tokens"),
    ],
)
def test_a_model_that_cannot_be_held_to_a_budget_is_told_apart_by_name(text: ModelText, because: str) -> None:
    with pytest.raises(UnsupportedParameter) as raised:
        budgeted(text)
    assert raised.value.details == {"name": "reasoning_budget", "because": because}


def test_calls_alone_are_no_reasoning() -> None:
    hermes = Parsing(OutputFormats(FakeText.formats.tools), None, thinking=False)
    asked = GenerateParams.model_validate({**CHAT, "reasoning_budget": 5})
    with pytest.raises(UnsupportedParameter):
        asyncio.run(with_budget(None, asked, FakeText(), hermes))

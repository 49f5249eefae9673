"""Forms and proposals from a request to the engine's constraint, and from the engine's account to the result."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest

from mlx_sidecar.front.api.adapters import AdapterUses
from mlx_sidecar.front.api.fake_text import END, FakeText
from mlx_sidecar.front.api.forms import Forms, reasoning_behind
from mlx_sidecar.front.api.generate import Generator
from mlx_sidecar.front.api.generate_result import Answer
from mlx_sidecar.front.api.model_catalog import ModelCatalog
from mlx_sidecar.front.api.model_text import ModelText
from mlx_sidecar.front.output.formats.table import OutputFormats
from mlx_sidecar.front.output.formats.tool_format import ReasoningFormat
from mlx_sidecar.front.sessions.store import SessionStore
from mlx_sidecar.front.supervision.text_pool import TextPool
from mlx_sidecar.front.wire.context import RequestContext
from mlx_sidecar.link.control_messages import ModelCard
from mlx_sidecar.link.forms import REASONING_BEGIN, REASONING_END
from mlx_sidecar.link.messages import Cancel, Effort, Finished, Generate, Speculation, Timing, Tokens
from mlx_sidecar.link.token_table import Strings, TokenTable, unpacked
from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter
from mlx_sidecar_protocol.generate import GenerateParams
from tests.support.desk import Desk, Shelf
from tests.support.forms import accepts
from tests.support.texts import TextsHere

DIGITS = {"type": "regex", "pattern": "[0-9]+"}
YES_OR_NO = {"type": "choice", "choices": ["yes", "no"]}
CHAT: dict[str, Any] = {"prompt": None, "messages": [{"role": "user", "content": "Well?"}]}


class Thinker(FakeText):
    """A model that ends its prompts with ``opening``."""

    def __init__(self, opening: str = "") -> None:
        super().__init__()
        self._opening = opening

    async def encode(self, text: str, add_special: bool = True, escape: bool = False) -> list[int]:
        return await super().encode(text + self._opening, add_special, escape)


class Asked:
    """One request, on its way to ``desk``."""

    def __init__(self, shelf: Shelf | None = None, **params: Any) -> None:
        self.desk, self.context = Desk(), RequestContext(1)
        self.shelf = shelf or Shelf()
        self.desk.recovery.attach(self.desk, self.shelf)
        self._generator = Generator(
            cast(ModelCatalog, self.shelf),
            self.desk.streams,
            self.desk.recovery,
            Forms(cast(TextPool, TextsHere())),
            SessionStore(8, 2**20),
            AdapterUses(),
        )
        self.running = self.more(**params)

    def more(self, **params: Any) -> asyncio.Task[Answer]:
        """Another request."""
        asked = GenerateParams.parse({"model": "fake", "prompt": "x", "max_tokens": 100, **params})
        return asyncio.create_task(self._generator(RequestContext(1), asked))

    async def goal(self) -> Generate:
        await self.desk.heard.wait()
        goal = self.desk.sent[-1].goal
        assert isinstance(goal, Generate)
        return goal

    async def constraint(self) -> str:
        goal = await self.goal()
        assert goal.constraint is not None
        return goal.constraint.grammar

    async def result(self, *messages: Tokens | Finished) -> dict[str, Any]:
        await self.desk.heard.wait()
        for message in messages:
            if isinstance(message, Tokens):
                self.desk.recovery.on_tokens(message)
            else:
                self.desk.recovery.on_finished(message)
        return (await self.running)().to_plain()


def finished(reason: Any = "stop", **members: Any) -> Finished:
    return Finished(1, reason, True, Timing(), **members)


def test_a_form_is_the_engines_constraint_with_the_models_own_end_tokens() -> None:
    async def test() -> None:
        goal = await Asked(response_format=YES_OR_NO, stop_tokens=[65]).goal()
        assert goal.constraint is not None
        assert goal.constraint.end_tokens == [END]
        assert goal.stop_tokens == [65, END]
        assert accepts(goal.constraint.grammar, "yes")
        assert not accepts(goal.constraint.grammar, "maybe")

    asyncio.run(test())


@pytest.mark.parametrize("form", [None, {"type": "text"}])
def test_text_is_held_to_nothing_and_its_result_says_nothing_of_a_form(form: Any) -> None:
    async def test() -> None:
        asked = Asked(response_format=form)
        assert (await asked.goal()).constraint is None
        assert asked.desk.vocabularies == []
        result = await asked.result(Tokens(1, [65]), finished())
        assert "response_format" not in result
        assert "speculation" not in result["usage"]

    asyncio.run(test())


def test_the_vocabulary_goes_before_the_first_constrained_sequence_and_not_again() -> None:
    async def test() -> None:
        asked = Asked()
        await asked.desk.heard.wait()
        for _ in range(2):
            asked.desk.heard.clear()
            asked.more(response_format=DIGITS)
            await asked.desk.heard.wait()
        [(sent_before, vocabulary)] = asked.desk.vocabularies
        assert (sent_before, vocabulary.model) == (1, "fake")
        assert vocabulary.data == bytes(range(256))
        assert memoryview(vocabulary.ends).cast("I").tolist() == [*range(1, 257), 256]
        assert unpacked(vocabulary.special) == [END]

    asyncio.run(test())


def test_the_next_engine_gets_vocabulary_form_and_tokens_and_the_effort_of_both_is_told() -> None:
    async def test() -> None:
        asked = Asked(response_format=DIGITS, speculation={"ngram": True, "max_tokens": 4})
        first = await asked.goal()
        asked.desk.recovery.on_tokens(Tokens(1, list(b"12"), effort=Effort(forced=1, masked=1, proposed=3, accepted=2)))
        asked.shelf.has_vocabulary = False
        asked.desk.recovery.on_engine_lost(frozenset({1}), "test", forced=True)
        asked.desk.recovery.on_engine_ready()
        again = await asked.goal()
        assert (again.constraint, again.speculation) == (first.constraint, Speculation(True, None, 4))
        assert (asked.desk.sent[1].tokens, again.emitted) == (list(b"x12"), 2)
        assert [before for before, _ in asked.desk.vocabularies] == [0, 1]
        result = await asked.result(Tokens(1, [51], effort=Effort(masked=1)), finished(complete=True))
        assert result["text"] == "123"
        assert result["response_format"] == {"complete": True, "forced_tokens": 1, "masked_steps": 2}
        assert result["usage"]["speculation"] == {"proposed": 3, "accepted": 2, "passes": 2}

    asyncio.run(test())


def test_a_grammar_counts_against_the_journal() -> None:
    async def test() -> None:
        asked = Asked(max_tokens=10, response_format={"type": "choice", "choices": ["a" * 4000]})
        assert len(await asked.constraint()) > 4000
        [task] = asked.desk.recovery.tasks.running
        assert task.entry.most_bytes > 4000 + 4 * 11

    asyncio.run(test())


@pytest.mark.parametrize(
    ("reason", "told", "stop"),
    [
        ("length", {"complete": False}, None),
        ("stop", {}, None),  # the engine did not say
        ("deadline", {"complete": False}, None),
        ("stop", {"complete": True}, ["2"]),  # the text is cut, whatever the tokens are
    ],
)
def test_an_answer_without_its_whole_form_says_so(reason: str, told: dict[str, Any], stop: list[str] | None) -> None:
    async def test() -> None:
        result = await Asked(response_format=DIGITS, stop=stop).result(Tokens(1, list(b"12")), finished(reason, **told))
        assert result["response_format"]["complete"] is False
        assert result["text"] == ("1" if stop else "12")

    asyncio.run(test())


def test_an_answer_that_its_engine_could_not_end_is_not_complete() -> None:
    async def test() -> None:
        asked = Asked(response_format=DIGITS)
        await asked.desk.heard.wait()
        asked.desk.recovery.on_tokens(Tokens(1, list(b"12")))
        asked.desk.recovery.end(asked.desk.recovery.tasks.running[0], "cancelled")
        assert asked.desk.told == [Cancel(1, "cancelled")]
        result = (await asked.running)().to_plain()  # the engine is deaf
        assert (result["finish_reason"], result["response_format"]["complete"]) == ("cancelled", False)

    asyncio.run(test())


def test_a_deadline_in_the_queue_is_answered_with_an_incomplete_form() -> None:
    async def test() -> None:
        result = (await Asked(Shelf(evicted=True), response_format=DIGITS, deadline_s=0.05).running)().to_plain()
        assert result["response_format"] == {"complete": False, "forced_tokens": 0, "masked_steps": 0}

    asyncio.run(test())


# Refusals, before the queue.


def refusal(shelf: Shelf | None = None, **params: Any) -> Exception:
    async def test() -> Exception:
        asked = Asked(shelf, **params)
        [failed] = await asyncio.gather(asked.running, return_exceptions=True)
        assert asked.desk.sent == []
        assert isinstance(failed, Exception)
        return failed

    return asyncio.run(test())


def test_a_form_that_cannot_be_kept_to_is_refused_by_the_path_to_its_keyword() -> None:
    schema = {"type": "object", "properties": {"first.name": {"not": {}}}}
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    failed = refusal(response_format=form)
    assert isinstance(failed, InvalidParams)
    path = ["response_format", "json_schema", "schema", "properties", "first.name", "not"]
    assert failed.details["errors"][0]["loc"] == path


@pytest.mark.parametrize(
    ("name", "asked"), [("response_format", {"response_format": DIGITS}), ("speculation", {"speculation": {}})]
)
def test_a_model_without_the_capability_is_refused_with_its_reason(name: Any, asked: dict[str, Any]) -> None:
    failed = refusal(Shelf(lacks={name: "its caches cannot be taken back"}), **asked)
    assert isinstance(failed, UnsupportedParameter)
    assert failed.details == {"name": name, "because": "its caches cannot be taken back"}


def test_a_model_without_speculation_may_be_asked_for_none() -> None:
    async def test() -> None:
        shelf = Shelf(lacks={"speculation": "no"})
        assert (await Asked(shelf, speculation=False).goal()).speculation is None
        assert (await Asked(speculation=False).goal()).speculation is None
        assert (await Asked().goal()).speculation is None

    asyncio.run(test())


def test_a_tokenizer_without_bytes_of_its_own_is_refused() -> None:
    class Opaque(FakeText):
        def vocabulary_bytes(self) -> None:
            return None

    failed = refusal(Shelf(text=Opaque()), response_format=DIGITS)
    assert isinstance(failed, UnsupportedParameter)
    assert failed.details["name"] == "response_format"


# Reasoning.


@pytest.mark.parametrize(
    ("opening", "good", "bad"),
    [
        ("<think>\n", "Hm.</think>\n\nyes", "yes"),
        ("<think>\n\n</think>\n\n", "yes", "<think>Hm.</think>yes"),
        ("", "<think>Hm.</think>yes", "Hm.</think>yes"),
    ],
)
def test_the_form_begins_behind_the_reasoning_of_a_chat(opening: str, good: str, bad: str) -> None:
    async def test() -> None:
        grammar = await Asked(Shelf(text=Thinker(opening)), **CHAT, response_format=YES_OR_NO).constraint()
        assert accepts(grammar, good)
        assert not accepts(grammar, bad)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("tail", "chat", "prompt"),
    [
        ("<|assistant|><think>\n", "open", "open"),
        ("<|assistant|>", "optional", "none"),
        ("<think>\n\n</think>\n\n", "none", "none"),
        ("what does <think> mean?<|assistant|>", "optional", "open"),
        ("<think>first of all", "optional", "open"),
        ("<think>a</think> b", "optional", "none"),
        ("", "optional", "none"),
    ],
)
def test_the_end_of_a_prompt_says_whether_reasoning_follows(tail: str, chat: str, prompt: str) -> None:
    markers = ReasoningFormat(REASONING_BEGIN, REASONING_END)
    assert (reasoning_behind(tail, markers, is_chat=True), reasoning_behind(tail, markers, is_chat=False)) == (
        chat,
        prompt,
    )


def test_the_markers_are_the_models_own() -> None:
    markers = ReasoningFormat("<|channel>thought\n", "<channel|>")
    assert reasoning_behind("<|turn>model\n<|channel>thought\n", markers, is_chat=True) == "open"
    assert reasoning_behind("<|turn>model\n<|channel>thought\n<channel|>", markers, is_chat=True) == "none"
    assert reasoning_behind("<think>", markers, is_chat=True) == "optional"


def test_no_reasoning_precedes_the_form_of_a_model_without_it() -> None:
    class Blunt(FakeText):
        formats = OutputFormats()

    async def test() -> None:
        grammar = await Asked(Shelf(text=Blunt()), **CHAT, response_format=YES_OR_NO).constraint()
        assert not accepts(grammar, "<think>Hm.</think>yes")

    asyncio.run(test())


class Library(Shelf):
    """A catalog that has a draft as well, of vocabulary ``table``."""

    def __init__(self, table: TokenTable, lacks: str = "") -> None:
        super().__init__()
        self._draft = FakeText()
        self._draft.table = table
        self._lacks = lacks

    async def ready(self, name: str) -> tuple[ModelCard, ModelText, float]:
        card, text, load_s = await super().ready(name)
        if name == "fake":
            return card, text, load_s
        return msgspec.structs.replace(card, capabilities={"draft": self._lacks}), self._draft, 0.0

    async def text(self, name: str) -> ModelText:
        return (await self.ready(name))[1]


SAME = FakeText().table
STRINGS = [string for _, string in SAME.items()]


def test_a_draft_with_the_models_vocabulary_makes_proposals() -> None:
    async def test() -> None:
        goal = await Asked(Library(SAME), speculation={"draft": "small", "ngram": False, "max_tokens": 3}).goal()
        assert goal.speculation == Speculation(False, "small", 3)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"strings": Strings.of(["?", *STRINGS[1:]])}, "token 0 is 'Ā' in the model and '?' in the draft"),
        ({"ids": SAME.ids[:-4], "strings": Strings.of(STRINGS[:-1])}, "token 256 is '' in the model and missing"),
        ({"special_ids": b""}, "token 256 is special in one of them only"),
        ({"family": None}, "turn tokens into text in different ways"),
    ],
)
def test_a_draft_with_another_vocabulary_is_refused_with_the_first_difference(
    change: dict[str, Any], because: str
) -> None:
    failed = refusal(Library(msgspec.structs.replace(SAME, **change)), speculation={"draft": "small"})
    assert isinstance(failed, UnsupportedParameter)
    assert failed.details["name"] == "speculation.draft"
    assert because in failed.details["because"]


def test_a_draft_that_cannot_take_tokens_back_is_refused() -> None:
    failed = refusal(Library(SAME, "its windows cannot be taken back"), speculation={"draft": "small"})
    assert isinstance(failed, UnsupportedParameter)
    assert "its windows" in failed.details["because"]

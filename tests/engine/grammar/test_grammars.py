"""Sequences with a constraint wait for its grammar, and nothing else does; their answers are held to it."""

from __future__ import annotations

import ctypes
import json
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import jsonschema
import pytest

from mlx_sidecar.engine.core.memory_ledger import GRAMMARS
from mlx_sidecar.engine.grammar import events, library_matcher
from mlx_sidecar.engine.grammar import grammars as module
from mlx_sidecar.engine.grammar import tokenizer as tokenizer_module
from mlx_sidecar.engine.grammar.events import Built
from mlx_sidecar.engine.grammar.library import library
from mlx_sidecar.engine.grammar.token_bytes import TokenBytes
from mlx_sidecar.engine.grammar.tokenizer import Tokenizer
from mlx_sidecar.engine.resident_models import LoadedModel, LoadStep
from mlx_sidecar.link.control_messages import Load, Unload
from mlx_sidecar.link.messages import Cancel, Constraint, Effort, Generate, Sampling, Submit, Tokens, Vocabulary
from tests.engine.grammar.vocabularies import END, json_grammar, vocabulary
from tests.engine.inline import FaultyBackend, Inline
from tests.support.engine_process import ready_engine

FAKE = "fake?tokens=40"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}, "tags": {"type": "array"}},
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
FIXED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
GRAMMAR = f"start: %json {json.dumps({**PERSON, 'x-guidance': FIXED})}"


class Unknown(FaultyBackend):
    """Does not know the bytes of its tokens, as the real engine does not."""

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        loaded = yield from super().load(load)
        return loaded._replace(vocabulary=None)


@pytest.fixture
def engine() -> Iterator[Inline]:
    with closing(Inline(1 << 30)) as inline:
        inline.load(FAKE)
        yield inline


def submit(
    engine: Inline,
    seq: int,
    grammar: str = GRAMMAR,
    model: str = FAKE,
    answered: tuple[int, ...] = (),
    max_tokens: int = 500,
    field: str = "response_format",
    **sampling: Any,
) -> None:
    constraint = Constraint(grammar, [END], field=field)
    goal = Generate(Sampling(**sampling), [END], max_tokens, emitted=len(answered), constraint=constraint)
    engine.send(Submit(seq, model, [1, *answered], goal))


def answer(engine: Inline, seq: int) -> bytes:
    engine.until(lambda: engine.ended(seq))
    return bytes(engine.tokens(seq))


@pytest.mark.parametrize(
    "model", [FAKE, "fake?tokens=3", "fake?wide=1&tokens=200", "fake?text=%22%7D%5D,:", "fake?echo=1"]
)
@pytest.mark.parametrize("schema", [PERSON, {"type": "object"}, {"enum": [1, "two"]}, {"type": "array", "minItems": 2}])
def test_a_scripted_answer_becomes_one_of_the_form_that_is_asked_for(
    engine: Inline, model: str, schema: dict[str, Any]
) -> None:
    engine.load(model)
    submit(engine, 1, json_grammar(schema), model)
    text = answer(engine, 1)
    end = engine.finished(1)
    assert (end.reason, end.complete) == ("stop", True)
    jsonschema.validate(json.loads(text), schema)


def test_what_the_script_says_is_said_where_the_form_allows_it(engine: Inline) -> None:
    said = b'{"name": "Ann", "age": 31, "tags": ["x", {"y": null}]}'
    model = f"fake?text={''.join(f'%{byte:02x}' for byte in said)}"
    engine.load(model)
    submit(engine, 1, model=model)
    assert answer(engine, 1) == said
    assert all(token.effort is None or token.effort.masked == 0 for token in engine.seen if isinstance(token, Tokens))


def test_forced_tokens_come_at_once_and_are_told_apart(engine: Inline) -> None:
    submit(engine, 1, logprobs=2)
    answer(engine, 1)
    first = next(message for message in engine.seen if isinstance(message, Tokens))
    assert bytes(first.tokens) == b'{"name": "'
    assert first.effort == Effort(forced=10)
    assert first.logprobs is not None
    assert len(first.logprobs) == 10


def test_an_answer_that_is_cut_off_is_not_complete(engine: Inline) -> None:
    submit(engine, 1, max_tokens=4)
    assert answer(engine, 1) == b'{"na'
    end = engine.finished(1)
    assert (end.reason, end.complete) == ("length", False)


def test_an_answer_goes_on_after_a_restart_as_if_there_had_been_none(engine: Inline) -> None:
    submit(engine, 1)
    whole = tuple(answer(engine, 1))
    for cut in range(len(whole) + 1):
        submit(engine, cut + 2, answered=whole[:cut])
        assert tuple(answer(engine, cut + 2)) == whole[cut:]
        end = engine.finished(cut + 2)
        assert (end.reason, end.complete) == ("stop", True)


def test_an_answer_that_was_as_long_as_it_may_be_before_a_restart_is_told_not_to_be_complete(engine: Inline) -> None:
    submit(engine, 1, answered=tuple(b'{"na'), max_tokens=4)
    assert answer(engine, 1) == b""
    end = engine.finished(1)
    assert (end.reason, end.complete) == ("length", False)


def test_a_free_sequence_is_not_held_up_while_a_tokenizer_is_built(
    engine: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def slowly(wanted: Vocabulary, build: Callable[[Vocabulary], Built] = events.build) -> Built:
        go.wait()
        return build(wanted)

    monkeypatch.setattr(module, "build", slowly)
    submit(engine, 1)
    engine.submit(2, FAKE)
    engine.settle()
    assert len(engine.tokens(2)) == 8
    assert not engine.tokens(1)
    go.set()
    json.loads(answer(engine, 1))


def test_a_cancelled_sequence_waits_for_no_grammar(engine: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(module, "build", lambda wanted, build=events.build: (go.wait(), build(wanted))[1])
    submit(engine, 1)
    engine.send(Cancel(1))
    engine.settle()
    assert engine.finished(1).reason == "cancelled"
    submit(engine, 2)
    go.set()
    json.loads(answer(engine, 2))
    assert not engine.tokens(1)


def test_a_grammar_that_cannot_be_used_ends_its_sequence_alone(engine: Inline) -> None:
    submit(engine, 1, "start: nothing")
    submit(engine, 2)
    json.loads(answer(engine, 2))
    engine.until(lambda: engine.ended(1))  # the other grammar may have been ready first
    fault = engine.finished(1).fault
    assert fault is not None
    assert (fault.kind, fault.details) == ("invalid_params", {"field": "response_format"})
    assert engine.finished(1).complete is None


def test_an_answer_whose_grammar_can_be_followed_no_further_ends_alone(
    engine: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_matcher, "ALLOWANCE_S", 0.2)
    monkeypatch.setattr(library_matcher, "ALLOWANCE_OF_TOKEN_S", 0.0)
    ambiguous = "start: r\nr: " + " | ".join(f"r r /[a-{chr(98 + at)}]/" for at in range(20)) + ' | "a"'
    model = f"fake?text={'a' * 400}"
    engine.load(model)
    submit(engine, 1, ambiguous, model)
    submit(engine, 2)
    json.loads(answer(engine, 2))
    answer(engine, 1)
    end = engine.finished(1)
    assert end.fault is not None
    assert (end.reason, end.fault.kind, end.complete) == ("error", "constraint_unsatisfiable", False)


def test_an_answer_so_far_that_does_not_fit_ends_its_sequence(engine: Inline) -> None:
    submit(engine, 1, answered=(ord("x"),))
    answer(engine, 1)
    fault = engine.finished(1).fault
    assert fault is not None
    assert fault.kind == "internal_error"


def test_a_constraint_needs_the_tokens_of_its_model_before_it() -> None:
    with closing(Inline(1 << 30, backend=Unknown())) as engine:
        engine.load(FAKE)
        submit(engine, 1)
        engine.settle()
        fault = engine.finished(1).fault
        assert fault is not None
        assert fault.kind == "internal_error"
        engine.send(vocabulary(model=FAKE))
        submit(engine, 2)
        json.loads(answer(engine, 2))


def test_tokens_that_make_no_table_refuse_constraints_by_the_parameter_that_asks_for_them() -> None:
    with closing(Inline(1 << 30, backend=Unknown())) as engine:
        engine.load(FAKE)
        engine.send(Vocabulary(FAKE, b"ab", b"", b""))
        for seq, field in enumerate(("response_format", "tools", "response_format"), 1):
            submit(engine, seq, field=field)
            answer(engine, seq)
            fault = engine.finished(seq).fault
            assert fault is not None
            assert (fault.kind, fault.details["name"]) == ("unsupported_parameter", field)


@pytest.mark.parametrize("field", ["response_format", "tools"])
def test_without_the_library_constraints_are_refused_by_the_parameter_that_asks_for_them(
    engine: Inline, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.setattr(module, "unavailable", lambda: "it is not there")
    submit(engine, 1, field=field)
    engine.settle()
    fault = engine.finished(1).fault
    assert fault is not None
    assert fault.details == {"name": field, "because": "it is not there"}


def test_a_tokenizer_goes_with_its_model(engine: Inline) -> None:
    ledger = engine.engine.requests.grammars._ledger
    submit(engine, 1)
    answer(engine, 1)
    held = ledger.bytes_of(GRAMMARS)
    assert held > 0
    engine.send(Unload(7, FAKE))
    engine.settle()
    assert ledger.bytes_of(GRAMMARS) == 0
    engine.load(FAKE)
    submit(engine, 2)
    json.loads(answer(engine, 2))
    assert ledger.bytes_of(GRAMMARS) == held


def test_tokens_that_are_told_anew_are_those_of_the_sequences_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(module, "build", lambda wanted, build=events.build: (go.wait(), build(wanted))[1])
    with closing(Inline(1 << 30, backend=Unknown())) as engine:
        engine.load(FAKE)
        engine.send(Vocabulary(FAKE, b"ab", b"", b""))  # no tokenizer could be made of it
        submit(engine, 1)
        engine.settle()
        engine.send(vocabulary(model=FAKE))
        engine.settle()
        go.set()
        json.loads(answer(engine, 1))


def test_an_engine_process_holds_answers_to_grammars() -> None:
    with ready_engine(engine="fake") as client:
        assert client.load(FAKE).card.lacks("response_format") == ""
        constraint = Constraint(GRAMMAR, [END])
        answers = [client.submit(FAKE, [1, at], 500, stop_tokens=[END], constraint=constraint) for at in range(8)]
        client.send(vocabulary(model=FAKE))
        answers.append(client.submit(FAKE, [1], 500, constraint=constraint))
        for seq in answers:
            assert client.finished(seq).complete
            jsonschema.validate(json.loads(bytes(client.tokens(seq))), PERSON)


class _Calls:
    """The library, with ``before`` called just before a tokenizer is built."""

    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before

    def __getattr__(self, name: str) -> object:
        return getattr(library(), name)

    def llg_new_tokenizer_v2(self, *arguments: object) -> int | None:
        self._before()
        pointer: int | None = library().llg_new_tokenizer_v2(*arguments)
        return pointer


def test_other_threads_run_while_a_tokenizer_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not isinstance(library(), ctypes.PyDLL)
    table = TokenBytes.of(vocabulary([str(number).encode() for number in range(50_000)]))
    before, ran = threading.Event(), list[bool]()
    monkeypatch.setattr(tokenizer_module, "library", lambda: _Calls(before.set))

    def other() -> None:
        before.wait()
        ran.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    interval_s = sys.getswitchinterval()
    try:
        # A thread that does not give the interpreter away keeps it, so the other one runs inside the library's call.
        sys.setswitchinterval(1e6)
        Tokenizer(table)
        ran_meanwhile = bool(ran)
    finally:
        sys.setswitchinterval(interval_s)
    thread.join()
    assert ran_meanwhile

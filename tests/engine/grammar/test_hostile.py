"""A hostile grammar is refused, or costs no more than its limits: it neither ends nor hangs the process."""

from __future__ import annotations

import json
from queue import SimpleQueue

import pytest

from mlx_sidecar.engine.grammar.events import Compilation, Compiled, compile_grammar
from mlx_sidecar.engine.grammar.library_matcher import FORCED_AT_ONCE
from mlx_sidecar.engine.grammar.matcher import Matcher
from mlx_sidecar.engine.grammar.spelling import Spelling
from mlx_sidecar.engine.grammar.workers import Workers
from mlx_sidecar.link.grammar_limits import LONGEST_GRAMMAR
from mlx_sidecar.link.messages import Constraint
from mlx_sidecar_protocol.errors import InvalidParams
from tests.engine.grammar.vocabularies import END, tokenizer, vocabulary

PATIENCE_S = 60.0


def compiled(grammar: str) -> Compiled:
    """Compile ``grammar`` as the engine does: on a thread that has the stack for it."""
    told: SimpleQueue[object] = SimpleQueue()
    workers = Workers(told.put)
    wanted = Compilation(1, Constraint(grammar, [END]), [], 300)
    workers.compile(lambda: compile_grammar(wanted, Spelling(vocabulary()), tokenizer()))
    event = told.get(timeout=PATIENCE_S)
    assert isinstance(event, Compiled)
    return event


def chain(rules: int) -> str:
    """Rules that refer to one another as deep as there are any."""
    return "start: r0\n" + "".join(f"r{at}:r{at + 1}\n" for at in range(rules)) + f'r{rules}:"a"'


def schema(depth: int) -> str:
    text = '{"items":' * depth + "{}" + "}" * depth
    return f'{{"grammars": [{{"json_schema": {text}}}]}}'


REFUSED = {
    "brackets": "start: " + "(" * 50_000 + '"a"' + ")" * 50_000,
    "brackets of a regex": "start: /" + "(" * 50_000 + "a" + ")" * 50_000 + "/",
    "a deep schema": schema(20_000),
    "a long text": "start: " + " " * LONGEST_GRAMMAR + '"a"',
    "a null character": 'start: "a\0b"',
    "a half of a character": 'start: "\ud800',
    "a token that refers to itself": 'start: A\nA: A "b"',
    "an empty language": "start: R\nR: /a/ & /b/",
}


@pytest.mark.parametrize("grammar", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_by_the_name_of_the_parameter(grammar: str) -> None:
    result = compiled(grammar).result
    assert isinstance(result, InvalidParams)
    assert result.details["errors"][0]["loc"] == ["response_format"]
    assert len(result.message) < 2000


def test_rules_as_deep_as_a_grammar_is_long_find_room_on_the_stack() -> None:
    grammar = chain(38_000)
    assert 0.9 * LONGEST_GRAMMAR < len(grammar) < LONGEST_GRAMMAR
    matcher = compiled(grammar).result
    assert isinstance(matcher, Matcher)
    assert matcher.forced == [ord("a")]


def test_references_of_a_schema_as_deep_as_it_is_long_find_room_on_the_stack() -> None:
    definitions = {f"a{at}": {"$ref": f"#/$defs/a{at + 1}"} for at in range(12_000)}
    root = {"$ref": "#/$defs/a0", "$defs": {**definitions, "a12000": {"const": "x"}}}
    matcher = compiled(json.dumps({"grammars": [{"json_schema": root}]})).result
    assert isinstance(matcher, Matcher)
    assert matcher.forced == [*b'"x"']


def test_a_grammar_that_forces_without_end_is_followed_piece_by_piece() -> None:
    matcher = compiled("start: /a{100000}/").result
    assert isinstance(matcher, Matcher)
    for _ in range(3):
        assert matcher.forced == [ord("a")] * FORCED_AT_ONCE
        assert matcher.replay(matcher.forced)


def test_a_grammar_that_grows_too_complex_ends_with_a_reason_and_allows_nothing_more() -> None:
    matcher = compiled("start: r\nr: " + " | ".join(f"r r /[a-{chr(98 + at)}]/" for at in range(20)) + ' | "a"').result
    assert isinstance(matcher, Matcher)
    for _ in range(2000):
        if not matcher.consume(ord("a")):
            break
        matcher.mask()
    assert matcher.failure
    assert not matcher.mask().any()
    assert (matcher.forced, matcher.complete, matcher.ended) == ([], False, False)
    assert matcher.allowed([ord("a")]) == 0

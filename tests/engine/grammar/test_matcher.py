"""A matcher's answers agree with one another, whatever the grammar and however its text is cut into tokens."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.engine.grammar.library_matcher import GrammarError
from mlx_sidecar.engine.grammar.matcher import Matcher
from tests.engine.grammar.vocabularies import END, json_grammar, matcher, text_of

ATOMS = st.sampled_from(["a", "b", "ab", "é", "[a-c]", "[^a]", "[0-9]", ".", "日本", " "])


def _repeated(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    joined = st.lists(parts, min_size=1, max_size=3).map("".join)
    either = st.lists(parts, min_size=2, max_size=3).map(lambda found: f"({'|'.join(found)})")
    again = st.builds(lambda part, how: f"({part}){how}", parts, st.sampled_from(["?", "*", "+", "{2}", "{1,3}"]))
    return joined | either | again


REGEXES = st.recursive(ATOMS, _repeated, max_leaves=6)
LEAVES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"type": "string", "maxLength": 3},
        {"type": "integer", "minimum": 0, "maximum": 120},
        {"type": "boolean"},
        {"type": "null"},
        {"const": "naïve"},
        {"enum": ["red", "green", 3]},
    ]
)
KEYS = st.lists(st.sampled_from(["name", "a", "ab", "größe"]), min_size=1, max_size=3, unique=True)


def _holding(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def holding(keys: list[str], found: list[dict[str, Any]], required: int) -> dict[str, Any]:
        properties = {key: found[at % len(found)] for at, key in enumerate(keys)}
        return {
            "type": "object",
            "properties": properties,
            "required": keys[:required],
            "additionalProperties": False,
        }

    held = st.builds(holding, KEYS, st.lists(parts, min_size=1, max_size=3), st.integers(0, 3))
    return held | parts.map(lambda part: {"type": "array", "items": part, "maxItems": 2})


SCHEMAS = st.recursive(LEAVES, _holding, max_leaves=5)
TEXT = st.text(st.sampled_from('ab1é日{}[]":, \nname'), min_size=1, max_size=5).map(str.encode)
# Cut anywhere, characters as well; a word may be there twice, or be a single byte.
WORDS = st.lists(TEXT | TEXT.map(lambda text: text[:-1] or text) | TEXT.map(lambda text: text[1:] or text), max_size=12)
BEYOND = 3  # tokens of the model that no table knows


def _states(start: Matcher, seed: int, steps: int = 12) -> list[int]:
    """Let ``start`` go ``steps`` tokens on, each taken at random, the forced ones first; return them."""
    random, taken = Random(seed), list[int]()
    while len(taken) < steps and not start.ended:
        allowed = start.forced[:1] or [token for token in start.mask().nonzero()[0].tolist() if token != END]
        if not allowed:
            break
        # A text token, where there is one, as often as all single bytes together.
        longer = [token for token in allowed if token > END]
        taken.append(random.choice(longer if longer and random.random() < 0.5 else allowed))
        assert start.consume(taken[-1])
    return taken


def _seen(state: Matcher) -> tuple[list[int], bool, bool, bytes, str]:
    return state.forced, state.complete, state.ended, state.mask().tobytes(), state.failure


def _asked_of_all(state: Matcher, words: int, random: Random) -> None:
    """Check each bit of the mask, or a choice of the bytes', against what ``consume`` does."""
    mask = state.mask()
    tokens = [*random.sample(range(256), 24), *b'ab" {}[]:,1\n', *range(END, END + 1 + words + BEYOND)]
    for token in [*tokens, *mask.nonzero()[0].tolist()[:40]]:
        copy = state.copy()
        assert copy.consume(token) == mask[token], token
        if not mask[token]:
            assert _seen(copy) == _seen(state)
    assert not state.consume(len(mask))
    assert not state.consume(-1)
    if state.forced:
        assert mask.sum() == 1
        assert mask[state.forced[0]]
        assert not state.complete


def _forced_by_bytes(grammar: str, text: bytes, forced: bytes) -> None:
    """Check that behind ``text`` nothing but ``forced`` may come, byte by byte."""
    by_bytes = matcher(grammar)
    assert by_bytes.replay(text)
    for byte in forced:
        assert by_bytes.mask().nonzero()[0].tolist() == [byte]
        assert by_bytes.consume(byte)


def _lived(grammar: str, listed: list[bytes], seed: int) -> list[int]:
    """Follow ``grammar`` at random, and check all that can be asked at each state; return the tokens."""
    words, random = tuple(listed), Random(seed)
    taken = _states(matcher(grammar, words, BEYOND), seed)
    state = matcher(grammar, words, BEYOND)
    for at, token in enumerate(taken):
        _asked_of_all(state, len(words), random)
        assert state.allowed(taken[at:]) == len(taken) - at
        _forced_by_bytes(grammar, text_of(taken[:at], words), text_of(state.forced, words))
        guess = [*taken[at : at + random.randrange(3)], random.choice([END, *b"ab", END + len(words)]), *b"a"]
        copy = state.copy()
        assert state.allowed(guess) == sum(1 for told in _until_refused(copy, guess) if told)
        again = matcher(grammar, words, BEYOND)
        assert again.replay(taken[:at])
        assert _seen(again) == _seen(state)
        assert state.consume(token)
    _asked_of_all(state, len(words), random)
    return taken


def _until_refused(state: Matcher, tokens: list[int]) -> list[bool]:
    told: list[bool] = []
    for token in tokens:
        told.append(state.consume(token))
        if not told[-1]:
            break
    return told


@settings(max_examples=60)
@given(REGEXES, WORDS, st.integers(0, 1 << 16))
def test_all_answers_about_a_regex_agree(regex: str, words: list[bytes], seed: int) -> None:
    grammar = f"start: /{regex}/"
    taken = _lived(grammar, words, seed)
    end = matcher(grammar, tuple(words))
    assert end.replay(taken)
    text = text_of(taken, tuple(words))
    if end.complete:
        assert re.fullmatch(regex, text.decode())


@settings(max_examples=60)
@given(SCHEMAS, WORDS, st.integers(0, 1 << 16))
def test_all_answers_about_a_schema_agree(schema: dict[str, Any], words: list[bytes], seed: int) -> None:
    grammar = json_grammar(schema)
    taken = _lived(grammar, words, seed)
    end = matcher(grammar, tuple(words))
    assert end.replay(taken)
    if end.complete:
        jsonschema.validate(json.loads(text_of(taken, tuple(words))), schema)


THINKING = r"""
start: think ws answer
think[lazy]: /(.|\n)*<\/think>/
ws: /[ \n]{0,4}/
answer: %json {"enum": ["yes", "no"]}
"""


@settings(max_examples=20)
@given(st.sampled_from([THINKING, 'start: "<" call* ">"\ncall: "a(" /[0-9]+/ ")"']), st.integers(0, 1 << 16))
def test_all_answers_about_rules_agree(grammar: str, seed: int) -> None:
    _lived(grammar, [b"</think>", b"think", b">\n", b"a(", b"))"], seed)


@given(SCHEMAS, WORDS, st.integers(0, 1 << 16))
def test_what_is_asked_on_the_way_changes_nothing(schema: dict[str, Any], words: list[bytes], seed: int) -> None:
    grammar, random = json_grammar(schema), Random(seed)
    asked, quiet = (matcher(grammar, tuple(words), BEYOND) for _ in range(2))
    for token in _states(matcher(grammar, tuple(words), BEYOND), seed, steps=40):
        if random.random() < 0.5:
            asked.mask()
        if random.random() < 0.5:
            asked.allowed([random.randrange(300) for _ in range(3)])
        asked.consume(END + len(words) + BEYOND)  # refused
        assert asked.consume(token) == quiet.consume(token)
        assert (asked.forced, asked.complete, asked.ended) == (quiet.forced, quiet.complete, quiet.ended)


def test_no_more_than_eight_white_spaces_follow_one_another() -> None:
    state = matcher(json_grammar({"type": "object"}))
    assert state.replay(b'{"a":')
    assert state.allowed(list(b" " * 9)) == 8
    assert state.allowed(list(b" \n\t " * 2 + b"1")) == 9


def test_an_end_token_is_allowed_where_the_answer_is_whole_and_changes_nothing() -> None:
    state = matcher("start: /a+/")
    assert not state.consume(END)
    assert state.consume(ord("a"))
    assert state.complete
    assert not state.ended
    before = _seen(state)
    assert state.consume(END)
    assert _seen(state) == before
    assert state.allowed([END, ord("a"), END]) == 3
    assert state.mask().nonzero()[0].tolist() == [ord("a"), END]


def test_nothing_but_its_end_may_follow_a_whole_answer() -> None:
    state = matcher('start: "ab"')
    assert state.forced == [*b"ab"]
    assert state.replay(b"ab")
    assert state.ended
    assert state.complete
    assert state.mask().nonzero()[0].tolist() == [END]
    assert not state.consume(ord("a"))


def test_an_empty_answer_is_whole_at_once() -> None:
    state = matcher('start: ""')
    assert state.ended
    assert state.complete


def test_a_token_without_text_matches_no_text() -> None:
    state = matcher("start: /(?s:.)*/", (b"<|x|>", b""))
    assert not state.mask()[[END + 2, 0xFF]].any()  # the empty one, and a byte that is nowhere in UTF-8
    assert state.mask()[END + 1]
    assert not state.consume(END + 2)


def test_forced_tokens_are_those_of_the_table_and_the_first_of_them_is_the_only_one_allowed() -> None:
    words = (b'":', b'{"', b"na", b"me", b"name", b' "')
    schema = {"type": "object", "properties": {"name": {"const": "x"}}, "required": ["name"]}
    options = {"key_separator": ": ", "item_separator": ", ", "whitespace_flexible": False}
    given_ = {**schema, "additionalProperties": False, "x-guidance": options}
    state = matcher(f"start: %json {json.dumps(given_)}", words)
    assert text_of(state.forced, words) == b'{"name": "x"}'
    assert state.forced[0] == END + 2
    assert not state.consume(ord("{"))
    assert state.allowed(state.forced) == len(state.forced)
    for token in state.forced:
        assert state.consume(token)
    assert state.ended


@pytest.mark.parametrize(
    "grammar", ["start: nothing", "", "start: /(/", '{"grammars": [{"json_schema": {"not": {}}}]}']
)
def test_a_grammar_that_cannot_be_compiled_says_why(grammar: str) -> None:
    with pytest.raises(GrammarError, match=r"\w"):
        matcher(grammar)

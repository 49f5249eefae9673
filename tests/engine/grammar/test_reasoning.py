"""Reasoning ends at its budget, however the answer's tokens cut the markers, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.grammar.budgeted import Budgeted
from mlx_sidecar.engine.grammar.matcher import Matcher
from mlx_sidecar.engine.grammar.reasoning import ReasoningFollower, others_of
from mlx_sidecar.engine.grammar.spelling import Spelling
from mlx_sidecar.link.reasoning import ReasoningBudget
from tests.engine.grammar.vocabularies import BYTES, END, tokenizer, vocabulary

BEGIN, STOP = b"<think>", b"</think>"
HARMONY = b"<|channel|>analysis<|message|>", b"<|end|>"
FORM = r"""start: thought gap answer
thought[lazy]: /(.|\n)*<\/think>/
gap: /[ \n]{0,4}/
answer: "yes" | "no"
"""


@dataclass(frozen=True)
class Answering:
    """An answer over the bytes, an end of the turn and ``words``, of which the last ``special`` ones are special."""

    budget: ReasoningBudget
    words: tuple[bytes, ...] = ()
    special: int = 0

    @property
    def size(self) -> int:
        return len(BYTES) + 1 + len(self.words)

    def budgeted(self, grammar: str = "") -> Budgeted:
        special = range(self.size - self.special, self.size)
        spelling = Spelling(vocabulary(self.words, special=special))
        end = spelling.end_marker(self.budget.end, frozenset(self.budget.shown), self.size)
        inner = Matcher.compiled(tokenizer(self.words), grammar, self.size, [END]) if grammar else None
        others = others_of(self.budget, spelling, self.size)
        return Budgeted(ReasoningFollower(self.budget, spelling, end, others), inner, self.size)

    def text(self, token: int) -> bytes:
        hidden = token == END or (token >= self.size - self.special and token not in self.budget.shown)
        return b"" if hidden else [*BYTES, b"", *self.words][token]


def think(tokens: int, *, thinking: bool = True) -> ReasoningBudget:
    return ReasoningBudget(BEGIN, STOP, thinking, tokens)


def say(answer: Budgeted, tokens: Sequence[int]) -> list[int]:
    """Say ``tokens``, the forced ones first wherever there are some, and return all that was said."""
    said: list[int] = []
    for token in tokens:
        while answer.forced:
            said.append(answer.forced[0])
            assert answer.consume(said[-1])
        said.append(token)
        assert answer.consume(token)
    return said


@dataclass(frozen=True)
class Read:
    """Reasoning in an answer as a plain search of its whole text finds it."""

    inside: bool
    counted: int
    may_count: int  # and the tokens in which the end may have begun
    standing: int  # bytes of the end marker


def read(answering: Answering, tokens: Sequence[int]) -> Read:
    budget = answering.budget
    text = b"".join(map(answering.text, tokens))
    holders = [at for at, token in enumerate(tokens) for _ in answering.text(token)]
    counted, first, place, inside = 0, 0, 0, budget.thinking
    while True:
        if not inside:
            begins = text.find(budget.begin, place) if budget.anywhere else len(text) - len(text.lstrip(b" \t\r\n"))
            if (place and not budget.anywhere) or begins < 0 or not text[begins:].startswith(budget.begin):
                return Read(False, counted, counted, 0)
            place = begins + len(budget.begin)
            first = holders[place - 1] + 1
        ends = text.find(budget.end, place)
        if ends < 0:
            break
        counted += max(0, holders[ends] - first)
        place, inside = ends + len(budget.end), False
        if not budget.anywhere:
            return Read(False, counted, counted, 0)
    starts = range(max(place, len(text) - len(budget.end)), len(text) + 1)
    stands = next(len(text) - at for at in starts if budget.end.startswith(text[at:]))
    sure = holders[len(text) - stands] if stands else len(tokens)
    return Read(True, counted + max(0, sure - first), counted + len(tokens) - first, stands)


PIECES = st.sampled_from([b"<", b"</", b"think", b">", b"<think>", b"</think>", b"nk>\n", b".</t", b"<<", b"\n", b"a"])
HARMONY_PIECES = st.sampled_from([*HARMONY, b"<|end", b"|>", b"<|channel|>", b"analysis", b"<|message|>", b"x<", b" "])


@st.composite
def answerings(draw: st.DrawFn) -> Answering:
    harmony = draw(st.booleans())
    words = tuple(draw(st.lists(HARMONY_PIECES if harmony else PIECES, max_size=8)))
    special = draw(st.integers(0, len(words)))
    size = len(BYTES) + 1 + len(words)
    shown = draw(st.lists(st.sampled_from(range(size - special, size)), unique=True)) if special else []
    tokens, thinking = draw(st.integers(0, 12)), draw(st.booleans())
    begin, end = HARMONY if harmony else (BEGIN, STOP)
    return Answering(ReasoningBudget(begin, end, thinking, tokens, harmony, shown), words, special)


def lived(answering: Answering, random: Random, steps: int = 40) -> list[int]:
    """Say random tokens, and check at each that what is told is what a search of the whole text finds."""
    answer, said, budget = answering.budgeted(), list[int](), answering.budget
    texts = [*(budget.begin[at : at + 1] for at in range(len(budget.begin))), b"\n", b"a", b"<", b"/", b">"]
    favoured = [*{text[0] for text in texts}, END, *range(END + 1, answering.size)]
    forced: list[int] = []
    while len(said) < steps or forced:
        found = read(answering, said)
        spent = found.inside and found.may_count >= budget.tokens
        assert answer.free == (not spent)
        if not forced and spent:
            forced = answer.forced
            whole = max((t for t in range(answering.size) if answering.text(t) == budget.end), default=None)
            spelled = b"".join(map(answering.text, forced))
            assert forced == [whole] if whole is not None else spelled == budget.end[found.standing :]
        assert answer.forced == forced
        if forced:
            other = random.choice(favoured)
            assert answer.consume(other) == (other == forced[0]) or other == forced[0]
            token, forced = forced[0], forced[1:]
            if other != token:
                assert answer.consume(token)
        else:
            if random.random() < 0.1:
                guess, copy = random.choices(favoured, k=4), answering.budgeted()
                say(copy, said)
                allowed = next((at for at, guessed in enumerate(guess) if not copy.consume(guessed)), len(guess))
                assert answer.allowed(guess) == allowed
            token = random.choice(favoured)
            assert answer.consume(token)
        said.append(token)
    return said


@given(answerings(), st.randoms(use_true_random=False))
def test_reasoning_is_what_a_search_of_the_whole_text_finds_and_is_never_longer_than_its_budget(
    answering: Answering, random: Random
) -> None:
    said = lived(answering, random)
    assert read(answering, said).counted <= answering.budget.tokens


@given(st.integers(0, 40), st.randoms(use_true_random=False))
def test_the_end_comes_after_exactly_the_budget_where_nothing_of_a_marker_stands(tokens: int, random: Random) -> None:
    answering = Answering(think(tokens))
    said = say(answering.budgeted(), [random.choice(b"ab \n") for _ in range(tokens)] + [ord("!")])
    assert bytes(said[tokens:]) == STOP + b"!"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"abcdef", b"abc</think>def"),
        (b"ab<def", b"ab</think>def"),
        (b"a</thdef", b"a</think>def"),
        (b"a</think>b", b"a</think>b"),
        (b"</think>abcdef", b"</think>abcdef"),
    ],
)
def test_an_end_that_has_begun_is_completed_and_one_within_the_budget_is_left_alone(text: bytes, said: bytes) -> None:
    answer = Answering(think(3)).budgeted()
    tokens = list(text)
    heard: list[int] = []
    while tokens or answer.forced:
        token = answer.forced[0] if answer.forced else tokens.pop(0)
        if answer.forced and tokens and tokens[0] == token:
            tokens.pop(0)  # it would have said the same
        heard.append(token)
        assert answer.consume(token)
    assert bytes(heard) == said


def test_a_marker_that_is_one_token_is_forced_as_one_even_behind_a_beginning_of_it() -> None:
    answering = Answering(think(2), (b"</think>",))
    answer = answering.budgeted()
    assert answer.consume(ord("a"))
    assert answer.consume(ord("<"))
    assert answer.forced == [END + 1]
    assert answer.consume(END + 1)
    assert answer.lifted


@pytest.mark.parametrize("thinking", [True, False])
def test_a_budget_of_nothing_ends_reasoning_as_soon_as_it_has_begun(thinking: bool) -> None:
    answer = Answering(think(0, thinking=thinking), (BEGIN, STOP), 0).budgeted()
    if not thinking:
        assert answer.free
        assert answer.consume(END + 1)
    assert answer.forced == [END + 2]
    assert not answer.complete
    assert answer.mask().nonzero()[0].tolist() == [END + 2]
    assert not answer.consume(ord("a"))


def test_an_answer_that_does_not_begin_with_reasoning_is_free_of_it() -> None:
    answer = Answering(think(0, thinking=False)).budgeted()
    lifted = [answer.lifted for token in b" \nx" if answer.consume(token)]
    assert lifted == [False, False, True]
    assert say(answer, BEGIN + b"more") == [*BEGIN, *b"more"]


def test_a_special_token_whose_text_is_not_shown_is_no_marker() -> None:
    hidden = Answering(think(9, thinking=False), (BEGIN, STOP), 2)
    shown = Answering(ReasoningBudget(BEGIN, STOP, False, 9, shown=[END + 1, END + 2]), (BEGIN, STOP), 2)
    for answering, tokens in ((hidden, 0), (shown, 2)):
        answer = answering.budgeted()
        say(answer, [END + 1, *b"ab", END + 2])
        assert read(answering, [END + 1, *b"ab", END + 2]).counted == tokens


def test_a_budget_is_spent_over_all_reasoning_of_an_answer_that_may_have_several() -> None:
    begin, end = HARMONY
    budget = ReasoningBudget(begin, end, False, 5, anywhere=True)
    answer = Answering(budget, (begin, end)).budgeted()
    opens, closes = END + 1, END + 2
    assert say(answer, [opens, *b"abc", closes, opens, *b"de"]) == [opens, *b"abc", closes, opens, *b"de"]
    assert answer.forced == [closes]
    assert say(answer, [opens]) == [closes, opens]
    assert answer.forced == [closes]
    assert not answer.lifted


CHANNEL = (b"<|channel|>", b"<|message|>", b"<|end|>", b"analysis", b"comment", b"final", b" analysis", b"an")
CHANNEL_FORM = r"""start: analysis* final
analysis: "<|channel|>analysis<|message|>" thought
thought[lazy]: /(.|\n)*<\|end\|>/
final: "<|channel|>final<|message|>" ("yes" | "no")
"""


def channels(tokens: int) -> tuple[Answering, dict[bytes, int]]:
    begin, end = HARMONY
    fork, others = b"<|channel|>", [b"commentary", b"final"]
    budget = ReasoningBudget(begin, end, False, tokens, anywhere=True, fork=fork, instead=others)
    return Answering(budget, CHANNEL), {text: END + 1 + at for at, text in enumerate(CHANNEL)}


@pytest.mark.parametrize("words", [CHANNEL, ()])
def test_where_reasoning_is_spent_another_channel_must_be_chosen(words: tuple[bytes, ...]) -> None:
    answering, ids = channels(2)
    answer = Answering(answering.budget, words).budgeted()
    said = b"<|channel|>analysis<|message|>ab<|end|><|channel|>"
    cut = [ids[CHANNEL[0]], ids[b"analysis"], ids[CHANNEL[1]], *b"ab", ids[CHANNEL[2]], ids[CHANNEL[0]]]
    assert all(map(answer.consume, cut if words else said))
    chosen = [text for text in (b"comment", b"final") if words]
    assert answer.mask().nonzero()[0].tolist() == [*b"cf", *(ids[text] for text in chosen)]
    assert (answer.free, answer.complete, answer.forced, answer.lifted) == (False, False, [], False)
    assert not answer.consume(ord("a"))
    assert answer.allowed([*b"final", ord("a")]) == 6
    assert answer.consume(ord("f"))
    assert answer.free


def test_a_budget_of_nothing_leaves_the_first_channel_to_others() -> None:
    answering, ids = channels(0)
    answer = answering.budgeted()
    assert answer.free
    assert answer.consume(ids[b"<|channel|>"])
    assert not answer.consume(ids[b"analysis"])
    assert not answer.consume(ids[b" analysis"])
    assert answer.consume(ids[b"final"])


@given(st.integers(0, 6), st.sampled_from(["", CHANNEL_FORM]), st.randoms(use_true_random=False))
def test_no_channel_of_reasoning_is_begun_when_the_budget_is_spent(tokens: int, form: str, random: Random) -> None:
    answering, ids = channels(tokens)
    answer, said = answering.budgeted(form), list[int]()
    favoured = [*ids.values(), ord("a"), ord("b")]
    while len(said) < 60 and not answer.ended:
        spent = read(answering, said).counted >= tokens and not read(answering, said).inside
        allowed = answer.mask().nonzero()[0].tolist()
        token = random.choice([each for each in allowed if each in favoured] or allowed)
        if token == END:
            break
        assert answer.consume(token)
        said.append(token)
        assert not (spent and read(answering, said).inside)
    assert read(answering, said).counted <= tokens


def test_a_model_whose_tokens_cannot_spell_the_end_is_told_apart() -> None:
    table = vocabulary()
    with pytest.raises(ValueError, match="no tokens spell the end of reasoning"):
        Spelling(table).end_marker(STOP, frozenset(), ord("<"))


@pytest.mark.parametrize("words", [(), (STOP,)])
def test_a_character_in_whose_middle_the_budget_ends_is_left_out_of_the_grammar(words: tuple[bytes, ...]) -> None:
    character = "\N{GRINNING FACE}".encode()
    for part in range(1, len(character) + 1):
        answer = Answering(think(1 + part), words).budgeted(FORM)
        assert all(map(answer.consume, b"a" + character[:part]))
        assert answer.forced == ([END + 1] if words else [*STOP])
        assert all(map(answer.consume, [*answer.forced, *b"yes"]))
        assert answer.complete


@given(st.integers(0, 12), st.integers(0, 1 << 16))
def test_a_grammar_behind_the_reasoning_is_kept_to(tokens: int, seed: int) -> None:
    words, random = (b"</", b"think", b">\n", b"yes", b"ye", b"\xf0\x9f", b"\xe6", b"\x97"), Random(seed)
    answering = Answering(think(tokens), words)
    answer, said = answering.budgeted(FORM), list[int]()
    while not answer.ended:
        allowed = answer.mask().nonzero()[0].tolist()
        assert not answer.forced or allowed == answer.forced[:1]
        token = random.choice([t for t in allowed if t == END or answering.text(t) in (b"a", b"<", *words)] or allowed)
        assert answer.allowed([token]) == 1
        if token == END:
            break
        said.append(token)
        assert answer.consume(token)
    text = b"".join(map(answering.text, said))
    assert text.partition(STOP)[2].strip() in (b"yes", b"no")
    assert read(answering, said).counted <= tokens
    assert answer.complete
    again = answering.budgeted(FORM)
    assert all(map(again.consume, said))
    assert (again.forced, again.ended, again.complete) == (answer.forced, answer.ended, answer.complete)

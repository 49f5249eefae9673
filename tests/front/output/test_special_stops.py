"""Stop strings that name special tokens: the text ends before them, though a host is not sent these tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlx_sidecar.front.api.model_text import TableText
from mlx_sidecar.front.output.detokenizer import Detokenizers
from mlx_sidecar.front.output.special_stops import special_stops
from mlx_sidecar.front.output.stops import StopMatcher
from mlx_sidecar.front.output.until_stop import UntilStop, until_stop
from mlx_sidecar.link.token_table import ByteLevel, token_bytes
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar.text.tokens import token_table
from tests.support.texts import detokenizer as detokenizer_for
from tests.support.texts import detokenizer_of

# Token → its text. Texts of special tokens that hold one another, and what ordinary tokens write as well.
SPECIAL = {300: "<a>", 301: "<ab>", 302: "a<b>", 303: "b", 304: "é>", 305: ""}
_CHARACTER_OF = {data[0]: chr(code) for code in range(0x21, 0x144) if len(data := token_bytes(chr(code))) == 1}
STRINGS = {**_CHARACTER_OF, 256: "ab", 257: "<a", 258: ">b", **SPECIAL}


class Vocabulary:
    """Bytes, a few longer tokens, and special ones."""

    size, ids, special, family = 306, sorted(STRINGS), frozenset(SPECIAL), ByteLevel()

    def encode(self, text: str, add_special: bool) -> list[int]:
        raise AssertionError

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str:
        raise AssertionError

    def token(self, token: int) -> str | None:
        return STRINGS.get(token)

    def token_id(self, text: str) -> int | None:
        raise AssertionError


TABLE = token_table(Vocabulary())


def reader(stops: list[str]) -> UntilStop:
    detokenizer = detokenizer_of(TABLE, Vocabulary().decode)
    return until_stop(detokenizer, StopMatcher(stops), special_stops(stops, SPECIAL))


def read(stops: list[str], groups: list[list[int]], last: int | None = None) -> tuple[str, str | None]:
    text, reading = "", reader(stops)
    for group in groups:
        more, match, _ = reading.push(group)
        text += more
        if match is not None:
            return text, match
    more, match = reading.finish(last)
    return text + more, match


def plain(stops: list[str], symbols: list[str | int]) -> tuple[str, str | None]:
    """The rule as written, over characters and special tokens: after each of them, the longest that is complete."""
    for end in range(1, len(symbols) + 1):
        found = [(stop, start) for stop in stops if (start := start_of(stop, symbols[:end])) is not None]
        if found:
            match, start = max(found, key=lambda each: len(each[0]))
            return visible(symbols[:start]), match
    return visible(symbols), None


def start_of(stop: str, symbols: list[str | int]) -> int | None:
    """Where ``stop`` begins if ``symbols`` end with it, as a host sees them or with special tokens written out."""
    for start in range(len(symbols)):
        part = symbols[start:]
        written_out = "".join(one if isinstance(one, str) else SPECIAL[one] for one in part)
        seen = isinstance(part[0], str) and isinstance(part[-1], str) and visible(part) == stop
        if seen or (written_out == stop and part[0] != 305 and part[-1] != 305):
            return start
    return None


def visible(symbols: list[str | int]) -> str:
    return "".join(symbol for symbol in symbols if isinstance(symbol, str))


CHARACTERS = st.sampled_from("ab<>é😀")
STOPS = st.lists(
    st.lists(st.sampled_from([*"ab<>é", *filter(None, SPECIAL.values())]), min_size=1, max_size=4).map("".join),
    min_size=1,
    max_size=4,
)
LONGER = {"ab": 256, "<a": 257, ">b": 258}
WHOLE = st.lists(st.one_of(CHARACTERS, st.sampled_from(sorted(LONGER)), st.sampled_from(sorted(SPECIAL))), max_size=14)


def tokens_of(written: list[str | int]) -> list[int]:
    tokens: list[int] = []
    for one in written:
        tokens += [one] if isinstance(one, int) else [LONGER[one]] if one in LONGER else list(one.encode())
    return tokens


def symbols_of(written: list[str | int]) -> list[str | int]:
    return [symbol for one in written for symbol in (one if isinstance(one, str) else [one])]


@settings(max_examples=300)
@given(stops=STOPS, written=WHOLE, cuts=st.lists(st.integers(0, 40), max_size=6))
def test_any_split_of_the_tokens_gives_what_the_rule_says(
    stops: list[str], written: list[str | int], cuts: list[int]
) -> None:
    tokens, at = tokens_of(written), sorted({0, *cuts})
    groups = [tokens[start:end] for start, end in zip(at, [*at[1:], len(tokens)], strict=True)]
    assert read(stops, groups) == plain(stops, symbols_of(written))


@settings(max_examples=200)
@given(stops=STOPS, written=WHOLE, shown=st.sets(st.sampled_from([300, 301, 302, 303, 305])))  # 304 is no UTF-8
def test_a_special_token_that_is_shown_is_text_like_any_other(
    stops: list[str], written: list[str | int], shown: set[int]
) -> None:
    texts = frozenset(SPECIAL[token] for token in shown)
    special = TableText(TABLE, frozenset()).special_stops(stops, [], True, texts)
    reading = until_stop(detokenizer_of(TABLE, Vocabulary().decode, True, (), texts), StopMatcher(stops), special)
    text, match, _ = reading.push(tokens_of(written))
    if match is None:
        more, match = reading.finish()
        text += more
    as_text = [SPECIAL[one] if isinstance(one, int) and one in shown else one for one in written]
    symbols = [symbol for one in as_text for symbol in (one if isinstance(one, str) else [one])]
    assert (text, match) == plain(stops, symbols)


@settings(max_examples=200)
@given(stops=STOPS, written=WHOLE, last=st.sampled_from(sorted(SPECIAL)))
def test_the_special_token_that_the_engine_ended_at_counts_like_one_it_has_sent(
    stops: list[str], written: list[str | int], last: int
) -> None:
    assert read(stops, [tokens_of(written)], last) == plain(stops, symbols_of([*written, last]))


@settings(max_examples=200)
@given(stops=STOPS, tokens=st.lists(st.integers(0, 306), max_size=30))
@example(stops=["é<a>"], tokens=[0xC3, 300, 0xA9, 300])
def test_without_a_match_the_text_is_all_of_it_whatever_stands_within_a_character(
    stops: list[str], tokens: list[int]
) -> None:
    detokenizer = detokenizer_of(TABLE, Vocabulary().decode)
    whole = detokenizer.push_many(tokens) + detokenizer.finish()
    text, match = read(stops, [[token] for token in tokens])
    assert text == whole if match is None else match in stops


@given(stops=STOPS, written=WHOLE)
def test_less_is_held_back_than_the_longest_stop_string_has(stops: list[str], written: list[str | int]) -> None:
    reading, sent = reader(stops), ""
    for end, symbol in enumerate(written, 1):
        more, match, _ = reading.push(tokens_of([symbol]))
        sent += more
        so_far = visible(symbols_of(written[:end]))
        assert so_far.startswith(sent)
        if match is not None:
            break
        assert len(so_far) - len(sent) < max(map(len, stops))


@pytest.mark.parametrize(
    ("stop", "written", "text", "match"),
    [
        ("<ab>", ["x", 301, "y"], "x", "<ab>"),
        ("x<ab>", ["y", "x", 301, "z"], "y", "x<ab>"),
        ("<ab>y", ["x", 301, "y", "z"], "x", "<ab>y"),
        ("<a><ab>", ["x", 300, 301], "x", "<a><ab>"),
        ("x<a>y<ab>", ["x", 300, "y", 301], "", "x<a>y<ab>"),
        ("<a>y", ["x", 300, "z", "y"], "xzy", None),
        ("<a>y", ["x", 300, 301, "y"], "xy", None),
        ("<a>", ["x", "<a", ">", "y"], "x", "<a>"),  # as ordinary tokens
        ("ab", ["x", "a", 300, "b"], "x", "ab"),  # the host sees "ab"
        (">", ["x", 300, "y"], "xy", None),  # a part of a token that the host does not see
        ("é<a>", ["x", "é", 300], "x", "é<a>"),
        ("", [], "", None),
    ],
)
def test_where_a_stop_string_is_found(stop: str, written: list[str | int], text: str, match: str | None) -> None:
    assert read([stop] if stop else ["q"], [tokens_of(written)]) == (text, match)


def test_a_partial_match_is_held_back_and_comes_out_when_it_is_none() -> None:
    reading = reader(["ab<a>b"])
    assert reading.push(list(b"xab")) == ("x", None, 3)
    assert reading.push([300]) == ("", None, 1)
    assert reading.push(list(b"!")) == ("ab!", None, 1)


def test_of_two_that_are_complete_at_one_character_the_longer_wins() -> None:
    assert read(["b", "<a>b"], [[*b"x", 300, *b"b"]]) == ("x", "<a>b")
    assert read(["xb", "<a>b"], [[*b"x", 300, *b"b"]]) == ("x", "<a>b")
    assert read(["b>", "q"], [[*b"b", 303, *b">"]]) == ("", "b>")
    assert read(["yxb", "a>b"], [[*b"yx", 300, *b"b"]]) == ("", "yxb")


def test_without_a_stop_string_that_names_one_nothing_is_looked_for() -> None:
    assert special_stops(["ab", "|"], {1: "<|im_end|>", 2: ""}) is None
    assert special_stops([], {1: "<|im_end|>"}) is None


@pytest.mark.parametrize("kind", ["byte_level", "llama_like", "gemma_like", "word_piece", "metaspace_never"])
def test_a_special_token_ends_the_text_of_every_kind_of_tokenizer(kind: str, make_model: Callable[..., Path]) -> None:
    model = TextModel.load(make_model(kind))
    token, name = next(
        (token, text) for token, text in sorted(Detokenizers(model.table()).special_texts.items()) if len(text) > 1
    )
    before, behind = model.encode("the engine", False), model.encode("answers", False)
    for stop in (name, f"ngine{name}"):
        special = TableText(model.table(), model.eos_tokens).special_stops([stop], [], True)
        reading = until_stop(detokenizer_for(model, True), StopMatcher([stop]), special)
        text, match, _ = reading.push([*before, token, *behind])
        assert (text, match) == (model.decode(before, True).removesuffix("ngine" * (stop != name)), stop)


def test_a_character_of_byte_tokens_before_the_special_token_belongs_to_the_text(
    make_model: Callable[..., Path],
) -> None:
    model = TextModel.load(make_model("llama_like"))
    smile = [model._tokens.token_id(f"<0x{byte:02X}>") or 0 for byte in "😀".encode()]
    end = model._tokens.token_id("</s>") or 0
    for stops, expected in (
        (["</s>"], ("😀", "</s>")),
        (["😀</s>"], ("", "😀</s>")),
        (["</s>", "😀"], ("", "😀")),
        (["</s>x"], ("😀", None)),
    ):
        special = TableText(model.table(), model.eos_tokens).special_stops(stops, [], True)
        reading = until_stop(detokenizer_for(model, True), StopMatcher(stops), special)
        text, match, _ = reading.push([*smile, end])
        tail = "" if match else reading.finish()[0]
        assert (text + tail, match) == expected


def test_a_stop_token_that_is_no_special_one_ends_the_text_as_it_is() -> None:
    assert read(["<a>"], [list(b"on")], last=ord(".")) == ("on", None)

"""Text comes out whole: the pieces joined equal decoding everything at once, for every kind of tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from mlx_sidecar.link.token_table import ByteLevel, Pieces, fallback_byte, token_bytes
from mlx_sidecar.text.decoding import family
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar.text.tokens import FastTokens, token_table
from tests.support.texts import detokenizer as detokenizer_for
from tests.support.texts import detokenizer_of

EMOJI = ["👩‍👩‍👧‍👦", "🇩🇪", "e\u0301", "ñ", "한국어", "עברית", "🏳️‍🌈", "\u200d", "ﷺ", "\U0010ffff"]


def streamed(model: TextModel, tokens: Sequence[int], skip_special: bool) -> list[str]:
    detokenizer = detokenizer_for(model, skip_special)
    return [*map(detokenizer.push, tokens), detokenizer.finish()]


def tokens_of(model: TextModel) -> st.SearchStrategy[list[int]]:
    """Any tokens, special ones and ids that stand for nothing among them."""
    return st.lists(st.integers(0, model.vocabulary + 3), max_size=60)


def test_each_kind_takes_its_own_path(model: TextModel, kind: str) -> None:
    families: dict[type, set[str]] = {
        ByteLevel: {"byte_level", "byte_level_with_bos", "flagged"},
        Pieces: {"llama_like", "gemma_like", "unigram", "metaspace_never"},
        type(None): {"word_piece", "end_of_word", "words"},
    }
    assert kind in families[type(model._tokens.family)]


@settings(max_examples=200)
@given(data=st.data(), skip_special=st.booleans())
def test_any_tokens_give_the_text_of_decoding_them_at_once(
    model: TextModel, data: st.DataObject, skip_special: bool
) -> None:
    tokens = data.draw(tokens_of(model))
    assert "".join(streamed(model, tokens, skip_special)) == model.decode(tokens, skip_special)


@settings(max_examples=100)
@given(text=st.lists(st.one_of(st.text(), st.sampled_from(EMOJI))).map("".join), skip_special=st.booleans())
@example(text="".join(EMOJI), skip_special=True)
@example(text="   leading and\n\n  inner spaces  ", skip_special=False)
def test_any_text_comes_back_without_a_broken_character(model: TextModel, text: str, skip_special: bool) -> None:
    tokens = model.encode(text)
    pieces, whole = streamed(model, tokens, skip_special), model.decode(tokens, skip_special)
    assert "".join(pieces) == whole
    if "\ufffd" not in whole:
        assert not any("\ufffd" in piece for piece in pieces)


@given(data=st.data(), skip_special=st.booleans())
def test_it_does_not_matter_how_tokens_are_grouped(model: TextModel, data: st.DataObject, skip_special: bool) -> None:
    groups = data.draw(st.lists(tokens_of(model), max_size=6))
    detokenizer = detokenizer_for(model, skip_special)
    text = "".join(map(detokenizer.push_many, groups)) + detokenizer.finish()
    assert text == model.decode([token for group in groups for token in group], skip_special)


def bytes_as_tokens(model: TextModel, data: bytes) -> list[int]:
    """The tokens that stand for one byte each."""
    family = model._tokens.family
    if isinstance(family, ByteLevel):
        of = {token_bytes(model.pieces([token])[0]): token for token in reversed(range(model.vocabulary))}
        return [of[bytes([byte])] for byte in data]
    tokens = [model._tokens.token_id(f"<0x{byte:02X}>") for byte in data]
    return [token for token in tokens if token is not None]


@pytest.fixture(scope="module", params=["byte_level", "llama_like", "gemma_like"])
def bytes_model(request: pytest.FixtureRequest, make_model: Callable[..., Path]) -> TextModel:
    return TextModel.load(make_model(request.param))


@settings(max_examples=200)
@given(data=st.one_of(st.binary(max_size=12), st.text(max_size=6).map(str.encode)), after=st.sampled_from(["", "x"]))
@example(data=b"\xe4\xbd", after="x")
@example(data=b"\xf0\x9f\x98\xff\x80", after="")
def test_any_bytes_valid_or_not_are_read_as_decode_reads_them(bytes_model: TextModel, data: bytes, after: str) -> None:
    tokens = bytes_as_tokens(bytes_model, data) + bytes_model.encode(after, add_special=False)
    assert "".join(streamed(bytes_model, tokens, True)) == bytes_model.decode(tokens, True)


def test_all_bytes_one_after_another(bytes_model: TextModel) -> None:
    separator = bytes_model.encode("x", add_special=False)
    tokens = [token for byte in range(256) for token in [*bytes_as_tokens(bytes_model, bytes([byte])), *separator]]
    assert "".join(streamed(bytes_model, tokens, True)) == bytes_model.decode(tokens, True)


def test_a_character_in_several_tokens_comes_out_with_the_last(bytes_model: TextModel) -> None:
    detokenizer = detokenizer_for(bytes_model)
    first, *rest = bytes_as_tokens(bytes_model, "😀".encode())
    assert detokenizer.push(first) == ""
    assert [detokenizer.push(token) for token in rest[:-1]] == ["", ""]
    assert detokenizer.push(rest[-1]) + detokenizer.finish() == "😀"


def test_an_unfinished_character_at_the_end_becomes_a_replacement(make_model: Callable[..., Path]) -> None:
    model = TextModel.load(make_model("byte_level"))
    detokenizer = detokenizer_for(model)
    assert detokenizer.push_many(bytes_as_tokens(model, "a😀".encode()[:-1])) == "a"
    assert detokenizer.finish() == "\ufffd"


def test_special_tokens_are_left_out_and_markers_stay(make_model: Callable[..., Path]) -> None:
    model = TextModel.load(make_model("byte_level"))
    tokens = model.encode("<think>hm</think>Hi<|im_end|>")
    assert "".join(streamed(model, tokens, True)) == "<think>hm</think>Hi"
    assert "".join(streamed(model, tokens, False)) == "<think>hm</think>Hi<|im_end|>"


@settings(max_examples=200)
@given(data=st.data())
def test_special_tokens_that_are_shown_stand_in_the_text_and_no_others(model: TextModel, data: st.DataObject) -> None:
    special = sorted(model.special_ids)
    shown = data.draw(st.sets(st.sampled_from(special))) if special else set[int]()
    tokens = data.draw(st.lists(st.one_of(st.sampled_from(special), st.integers(0, model.vocabulary)), max_size=40))
    texts = frozenset(model.pieces([token])[0] for token in shown)
    detokenizer = detokenizer_for(model, True, (), texts)
    pieces = [*map(detokenizer.push, tokens), detokenizer.finish()]
    visible = [token for token in tokens if token not in model.special_ids or token in shown]
    assert "".join(pieces) == model.decode(visible, False)


def test_generated_text_is_what_its_tokens_decode_to_by_themselves(make_model: Callable[..., Path]) -> None:
    model = TextModel.load(make_model("llama_like"))
    tokens = model.encode("engine answers", add_special=False)
    assert model.pieces(tokens)[0].startswith("▁")
    assert "".join(streamed(model, tokens, True)) == "engine answers"


CUT = st.integers(0, 60)


@settings(max_examples=200)
@given(text=st.lists(st.one_of(st.text(), st.sampled_from([*EMOJI, " a", "  ", "\n"]))).map("".join), cut=CUT)
@example(text=" two words", cut=0)
@example(text="two words", cut=1)
@example(text="  " + "two words" * 30, cut=40)
def test_a_continuation_is_what_its_tokens_add_to_the_text_before(model: TextModel, text: str, cut: int) -> None:
    tokens = model.encode(text)
    prompt, rest = tokens[:cut], tokens[cut:]
    before = model.decode(prompt, True)
    # A prompt may end within a character, which is the continuation's then.
    whole = before if "\ufffd" in text or not isinstance(model._tokens.family, ByteLevel) else before.rstrip("\ufffd")
    if isinstance(model._tokens.family, Pieces) and rest and fallback_byte(model.pieces(rest[:1])[0]) is not None:
        return  # within a run of bytes: see below
    assert whole + "".join(continued(model, prompt, rest)) == model.decode(tokens, True)


def continued(model: TextModel, prompt: Sequence[int], tokens: Sequence[int]) -> list[str]:
    detokenizer = detokenizer_for(model, True, prompt)
    return [*map(detokenizer.push, tokens), detokenizer.finish()]


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("text", ["😀", "é😀", "x😀"])
def test_a_character_that_the_prompt_begins_comes_whole_with_its_last_byte(
    bytes_model: TextModel, text: str, cut: int
) -> None:
    head = bytes_model.encode("x", add_special=False)
    tokens = head + bytes_as_tokens(bytes_model, text.encode())
    cut += len(tokens) - 4
    assert "".join(continued(bytes_model, tokens[:cut], tokens[cut:])) == "😀"
    assert "".join(continued(bytes_model, tokens, head[-1:])).strip() == "x"


@pytest.mark.parametrize("kind", ["llama_like", "unigram"])
@pytest.mark.parametrize("skip_special", [True, False])
def test_only_what_continues_a_text_keeps_the_space_of_its_first_word(
    make_model: Callable[..., Path], kind: str, skip_special: bool
) -> None:
    model = TextModel.load(make_model(kind))
    tokens = model.encode("engine answers", add_special=False)
    start = sorted(model.special_ids)[:1]
    engine = model.encode("engine", add_special=False)
    for prompt, text in (
        ([], "engine answers"),
        (start, "engine answers"),  # nothing but a BOS: the text begins here
        (engine, " engine answers"),
        ([*start, *engine, *start], " engine answers"),
        ([*start] * 100 + engine, " engine answers"),
    ):
        detokenizer = detokenizer_for(model, skip_special, prompt)
        assert detokenizer.push_many(tokens) + detokenizer.finish() == text


def test_a_special_token_that_comes_first_does_not_take_the_space(make_model: Callable[..., Path]) -> None:
    model = TextModel.load(make_model("llama_like"))
    end = model._tokens.token_id("</s>")
    assert end is not None
    engine = model.encode("engine", add_special=False)
    assert "".join(continued(model, engine, [end, *engine])) == " engine"
    assert "".join(continued(model, [], [end, *engine])) == "engine"
    detokenizer = detokenizer_for(model, False, engine)
    assert detokenizer.push_many([end, *engine]) == "</s> engine"


def test_pending_text_is_what_finishing_would_give(model: TextModel) -> None:
    detokenizer = detokenizer_for(model)
    for token in model.encode("the engine 😀 answers é"):
        detokenizer.push(token)
    assert detokenizer.pending() == detokenizer.finish()


def test_text_comes_out_as_it_is_known_and_not_at_the_end(model: TextModel, kind: str) -> None:
    text = "the engine answers over standard input and standard output"
    pieces = streamed(model, model.encode(text), True)
    assert len([piece for piece in pieces[:-1] if piece]) > len(pieces) / 2
    assert len(pieces[-1]) <= 1


ODD = [
    decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Strip(" ", 1, 0), decoders.Fuse()]
    ),
    decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]),
    decoders.Sequence([decoders.Replace("▁", ""), decoders.Replace("a", "▁"), decoders.Fuse()]),
    decoders.Sequence([decoders.Replace("▁", "é"), decoders.Fuse(), decoders.Strip("é", 3, 0)]),
    decoders.Sequence([decoders.Replace("▁", "<0x"), decoders.ByteFallback(), decoders.Fuse()]),
    decoders.Sequence([decoders.ByteLevel()]),
    decoders.Sequence([]),
    decoders.CTC("a", "▁", cleanup=False),
    decoders.WordPiece("b", cleanup=True),
    decoders.BPEDecoder("b"),
    decoders.Fuse(),
    decoders.Metaspace(prepend_scheme="first"),
]
STRINGS = [
    "a",
    "b",
    "▁",
    "▁▁a",
    " ",
    "ab",
    "",
    "<0x41>",
    "<0xC3>",
    "<0xa4>",
    "<0x+9>",
    "<0xF>",
    "<0x-1>",
    "41>",
    "éĠ",
    ".",
]


@pytest.mark.parametrize("decoder", ODD, ids=[str(index) for index in range(len(ODD))])
@settings(max_examples=200)
@given(tokens=st.lists(st.integers(0, len(STRINGS)), max_size=30))
def test_decoders_put_together_in_other_ways_agree_as_well(decoder: decoders.Decoder, tokens: list[int]) -> None:
    tokenizer = Tokenizer(models.WordLevel({text: token for token, text in enumerate(STRINGS)}, "."))
    tokenizer.decoder = decoder
    fast = FastTokens(tokenizer)
    detokenizer = detokenizer_of(token_table(fast), fast.decode)
    pieces = [*map(detokenizer.push, tokens), detokenizer.finish()]
    assert "".join(pieces) == tokenizer.decode(tokens)


REPLACE_PATTERN = {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        {"type": "CTC", "pad_token": "a", "word_delimiter_token": "b", "cleanup": True},
        {"type": "Sequence", "decoders": [REPLACE_PATTERN, {"type": "Fuse"}]},
        {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 0, "stop": 1}]},
    ],
)
def test_a_decoder_of_neither_family_is_left_to_the_tokenizer(decoder: dict[str, object] | None) -> None:
    assert family(decoder) is None


class _Counting:
    """A tokenizer whose every token decodes to itself, and which counts how many it is asked to decode."""

    size, ids, special, family = 1, range(1), frozenset[int](), None

    def __init__(self, text: str) -> None:
        self.text, self.decoded = text, 0

    def encode(self, text: str, add_special: bool) -> list[int]:
        raise AssertionError

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str:
        self.decoded += len(tokens)
        return self.text * len(tokens)

    def token(self, token: int) -> str | None:
        return self.text

    def token_id(self, text: str) -> int | None:
        raise AssertionError


@pytest.mark.parametrize(("text", "per_token"), [("ab ", 4), (" ", 150), ("", 150), ("\ufffd", 10)])
def test_the_general_path_decodes_a_bounded_number_of_tokens_for_each(text: str, per_token: int) -> None:
    tokenizer = _Counting(text)
    detokenizer = detokenizer_of(token_table(tokenizer), tokenizer.decode)
    tokenizer.decoded = 0
    out = "".join(detokenizer.push(0) for _ in range(4000)) + detokenizer.finish()
    assert out == text * 4000
    assert tokenizer.decoded < 4000 * per_token

"""Bytes are cut into tokens as a tokenizer would cut them, and tokens without text are told apart."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.grammar.byte_pairs import LONGEST_BYTES, BytePairs
from mlx_sidecar.engine.grammar.token_bytes import TokenBytes
from mlx_sidecar.link.messages import Vocabulary
from mlx_sidecar.link.token_table import packed, token_bytes
from tests.engine.grammar.vocabularies import END, vocabulary

SMOLLM2 = Path(__file__).parents[3] / ".venv" / "models" / "smollm2" / "tokenizer.json"


@given(st.lists(st.binary(min_size=1, max_size=4), max_size=20), st.binary(max_size=3 * LONGEST_BYTES))
def test_the_tokens_of_any_bytes_spell_them(words: list[bytes], text: bytes) -> None:
    table = TokenBytes.of(vocabulary(words))
    spelled = table.spelled()
    assert b"".join(spelled[token] for token in BytePairs(table.ids).tokens(text)) == text


def test_pairs_are_merged_in_the_order_of_their_ids() -> None:
    pairs = BytePairs(TokenBytes.of(vocabulary([b"bc", b"ab", b"abc"])).ids)
    assert pairs.tokens(b"abc") == [END + 3]
    assert pairs.tokens(b"abb") == [END + 2, ord("b")]
    assert pairs.tokens(b"aabcc") == [ord("a"), END + 3, ord("c")]


def test_the_last_of_several_spaces_belongs_to_the_word_behind_it() -> None:
    pairs = BytePairs(TokenBytes.of(vocabulary([b"  ", b" a"])).ids)
    assert pairs.tokens(b"   a") == [END + 1, END + 2]


def test_a_character_is_its_own_token_and_not_that_of_its_byte() -> None:
    pairs = BytePairs(TokenBytes.of(vocabulary([b"</", b">", b"</"])).ids)
    assert pairs.tokens(b"</>") == [END + 1, END + 2]


def test_bytes_that_are_no_token_have_ids_that_no_model_samples() -> None:
    table = TokenBytes.of(Vocabulary("m", b"ab", array("I", [1, 2]).tobytes(), packed([])))
    assert table.size == 2
    assert BytePairs(table.ids).tokens(b"abz")[:2] == [0, 1]
    assert len(table.spelled()) == 2 + 254 + 1
    assert table.end == len(table.spelled()) - 1


def test_tokens_without_text_are_named_behind_a_byte_that_is_in_no_text() -> None:
    table = TokenBytes.of(vocabulary([b"", b"[1]"]))
    spelled = table.spelled()
    assert spelled[END] == b"\xff<end>"
    assert spelled[END + 1] == b"\xff[%d]" % (END + 1)
    assert spelled[END + 2] == b"[1]"
    assert spelled[0xFF] == b"\xff[255]"


@pytest.mark.parametrize("ends", [[1, 3], [2, 1, 2], []])
def test_a_table_whose_parts_do_not_fit_together_is_refused(ends: list[int]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        TokenBytes.of(Vocabulary("m", b"ab", array("I", ends).tobytes(), packed([])))


@pytest.mark.real
def test_json_is_cut_as_the_real_tokenizer_cuts_it() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(SMOLLM2))
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    texts = {token: token_bytes(text) for text, token in tokenizer.get_vocab().items() if token not in special}
    pairs = BytePairs(
        TokenBytes([texts.get(token, b"") for token in range(tokenizer.get_vocab_size())], frozenset()).ids
    )
    names = [
        "name",
        "city",
        "postalCode",
        "street_address",
        "isActive",
        "created_at",
        "größe",
        "東京",
        "items",
    ]
    for name in names:
        for text in (
            f'{{"{name}": "',
            f'", "{name}": ',
            f'], "{name}": [{{"',
            f'"{name}": true}}',
            f'  "{name}": null',
        ):
            assert pairs.tokens(text.encode()) == tokenizer.encode(text, add_special_tokens=False).ids, text
    whole = json.dumps({name: [name, {"a": "some words, more words"}] for name in names}, ensure_ascii=False)[:400]
    assert pairs.tokens(whole.encode()) == tokenizer.encode(whole, add_special_tokens=False).ids

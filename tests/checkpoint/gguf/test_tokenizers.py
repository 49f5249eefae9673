"""Tokenizers rebuilt from metadata: their tokens, what is put around a text, templates, and what ends a turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import Tokenizer

from mlx_sidecar.checkpoint.gguf.header import Value, read_header
from mlx_sidecar.checkpoint.gguf.metadata import Metadata
from mlx_sidecar.checkpoint.gguf.pre_tokenizers import SPLITTINGS
from mlx_sidecar.checkpoint.gguf.tokenizers import TokenizerFiles, rebuild
from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported
from tests.support import ggufs


@pytest.fixture
def values(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Value]:
    """Metadata with the tokenizer that the test's parameter names: its kind and its splitting."""
    kind, pre = getattr(request, "param", ("gpt2", "qwen2"))
    writer: Any = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    ggufs.add_tokenizer(writer, kind, pre)
    ggufs.close(writer)
    return read_header(tmp_path / "model.gguf", "m").metadata


def made(values: dict[str, Value]) -> tuple[TokenizerFiles, Tokenizer]:
    files = rebuild(Metadata("m", values), 512)
    return files, Tokenizer.from_str(json.dumps(files.tokenizer))


SPM = pytest.mark.parametrize("values", [("llama", "default")], indirect=True)
ODD_TEXT = "hello  hellо\n\t1234 'll 你好 é🚀"


def test_byte_level_tokens_join_by_the_file_s_merges(values: dict[str, Value]) -> None:
    _, tokenizer = made(values)
    assert tokenizer.encode("hello hello hell").tokens == ["hello", "Ġhello", "Ġ", "hell"]
    assert tokenizer.decode(tokenizer.encode(ODD_TEXT).ids) == ODD_TEXT


@SPM
def test_sentencepiece_joins_the_pair_with_the_best_score_and_falls_back_to_bytes(values: dict[str, Value]) -> None:
    _, tokenizer = made(values)
    assert tokenizer.encode("hello hé", add_special_tokens=False).tokens == ["▁hello", "▁h", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode(ODD_TEXT).ids) == ODD_TEXT


@SPM
def test_text_never_becomes_a_control_or_a_byte_token_by_merges(values: dict[str, Value]) -> None:
    _, tokenizer = made(values)
    tokenizer.encode_special_tokens = True
    assert "<s>" not in tokenizer.encode("<s></s><0x0A>", add_special_tokens=False).tokens
    assert "<0x0A>" not in tokenizer.encode("<0x0A>", add_special_tokens=False).tokens
    assert "<mark>" in tokenizer.encode("a<mark>b").tokens  # a user's own token is found in text


@SPM
def test_sentencepiece_begins_with_bos_and_a_space_unless_the_file_says_otherwise(values: dict[str, Value]) -> None:
    files, tokenizer = made(values)
    assert tokenizer.encode("hello").tokens == ["<s>", "▁hello"]
    assert files.settings["add_bos_token"]
    _, tokenizer = made(values | {"tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.add_bos_token": False})
    assert tokenizer.encode("hello").tokens == ["hello"]
    _, tokenizer = made(values | {"tokenizer.ggml.add_eos_token": True})
    assert tokenizer.encode("hello").tokens == ["<s>", "▁hello", "</s>"]


def test_llama_3_begins_with_bos_and_qwen_does_not(values: dict[str, Value]) -> None:
    assert made(values)[1].encode("h").tokens == ["h"]
    assert made(values | {"tokenizer.ggml.pre": "llama-bpe"})[1].encode("h").tokens == ["<s>", "h"]


def test_turns_end_with_eos_and_with_tokens_whose_text_says_so(values: dict[str, Value]) -> None:
    files, _ = made(values)
    texts = files.tokenizer["model"]["vocab"]
    assert files.ends == [texts["</s>"], texts["<|im_end|>"]]
    assert files.settings["bos_token"] == "<s>"


def test_named_templates_are_kept_beside_the_default(values: dict[str, Value]) -> None:
    files, _ = made(values | {"tokenizer.chat_template.tool_use": "{{ tools }}"})
    assert [each["name"] for each in files.settings["chat_template"]] == ["default", "tool_use"]


@pytest.mark.parametrize("pre", SPLITTINGS)
def test_every_splitting_is_one_that_the_library_takes(values: dict[str, Value], pre: str) -> None:
    _, tokenizer = made(values | {"tokenizer.ggml.pre": pre})
    assert tokenizer.decode(tokenizer.encode(ODD_TEXT).ids) == ODD_TEXT


@pytest.mark.parametrize(
    ("pre", "words"),
    [
        ("gpt-2", ["I", "'m", " 12345", " ok", "  ", " x"]),
        ("smollm", ["I", "'m", " ", "1", "2", "3", "4", "5", " ok", "  ", " x"]),
        ("qwen2", ["I", "'m", " ", "1", "2", "3", "4", "5", " ok", "  ", " x"]),
        ("llama-bpe", ["I", "'m", " ", "123", "45", " ok", "  ", " x"]),
    ],
)
def test_families_split_numbers_in_their_own_ways(values: dict[str, Value], pre: str, words: list[str]) -> None:
    _, tokenizer = made(values | {"tokenizer.ggml.pre": pre})
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str("I'm 12345 ok   x")
    assert [piece.replace("Ġ", " ") for piece, _ in pieces] == words


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tokenizer.ggml.model": "t5"}, r"tokenizer\.ggml\.model: tokenizers of the kind 't5'"),
        ({"tokenizer.ggml.pre": "newest"}, r"tokenizer\.ggml\.pre: 'newest' is not known"),
    ],
)
def test_an_unknown_kind_is_named(values: dict[str, Value], change: dict[str, Value], named: str) -> None:
    with pytest.raises(ModelUnsupported, match=named):
        made(values | change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "two tokens have one text"),
        ({"tokenizer.ggml.tokens": ["a" * 5000]}, "more than 1024 characters"),
        ({"tokenizer.ggml.tokens": 3}, "no array of texts"),
        ({"tokenizer.ggml.merges": ["h zz"]}, "joins what are no tokens"),
        ({"tokenizer.ggml.bos_token_id": 10**6}, "is no token of"),
        ({"tokenizer.ggml.bos_token_id": True}, "is no count"),
        ({"tokenizer.chat_template": 3}, "is no text"),
    ],
)
def test_what_cannot_be_is_named(values: dict[str, Value], change: dict[str, Value], named: str) -> None:
    with pytest.raises(ModelLoadFailed, match=named):
        made(values | change)

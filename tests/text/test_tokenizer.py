"""Tokens and text equal those of transformers, and errors name missing or broken files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.file_checks import FILE_LIMIT_BYTES, TOKENIZER_LIMIT_BYTES
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar_protocol.errors import InvalidParams, ModelLoadFailed, ModelUnsupported, UnsupportedParameter
from tests.support.texts import detokenizer_of

Reference = Callable[[Path], Any]
MakeModel = Callable[..., Path]

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two spaces, a\ttab and\n\n\nlines  ",
    "isn't it? I'm sure they've said so .",
    "日本語 and Ünïcödé and e\u0301 and 👩‍👩‍👧‍👦 and 🇩🇪",
    "<|im_start|>user\nHi<|im_end|>\n<think>hm</think>",
    "a <left> b <right> c <plain> d<plain>e <new> f <more> <image> <bos> <s> </s> [SEP]",
    "<s>[INST] x [/INST]",
    "\x00\x07\x7f\ufeff\ufffd\u200b",
]


@pytest.fixture(scope="module")
def theirs(model_path: Path, reference: Reference) -> Any:
    return reference(model_path)


def assert_equal(ours: TextModel, theirs: Any, text: str) -> None:
    for add_special in (True, False):
        assert ours.encode(text, add_special) == theirs.encode(text, add_special_tokens=add_special)
    tokens = ours.encode(text)
    for skip in (True, False):
        expected = theirs.decode(tokens, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
        assert ours.decode(tokens, skip_special=skip) == expected
    assert ours.pieces(tokens) == theirs.convert_ids_to_tokens(tokens)


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_text_and_pieces_equal_those_of_transformers(model: TextModel, theirs: Any, text: str) -> None:
    assert_equal(model, theirs, text)


@settings(max_examples=50)
@given(text=st.text())
def test_any_text_is_tokenised_as_transformers_does(model: TextModel, theirs: Any, text: str) -> None:
    assert_equal(model, theirs, text)


def test_special_tokens_equal_those_of_transformers(model: TextModel, theirs: Any) -> None:
    assert dict(model.special_tokens) == theirs.special_tokens_map
    assert model.special_ids == {id_ for id_, token in theirs.added_tokens_decoder.items() if token.special}
    assert model.bos == theirs.bos_token_id
    assert model.vocabulary == len(theirs)


LEGACY: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"special_tokens_map": {"bos_token": {"content": "<B>", "lstrip": True}, "eos_token": "<E>"}}),
    ({"eos_token": "<A>"}, {"special_tokens_map": {"eos_token": "<|im_end|>", "additional_special_tokens": ["<X>"]}}),
    ({"eos_token": "<E>"}, {"added_tokens": {"<E>": 9000, "<plain words>": 9001}}),
    ({"bos_token": {"__type": "AddedToken", "content": "<B>", "rstrip": True, "normalized": True}}, {}),
    ({"extra_special_tokens": {"video_token": "<V>"}, "mask_token": "the"}, {}),
    ({"extra_special_tokens": ["<Y>"], "additional_special_tokens": ["<Z>"]}, {}),
    ({"added_tokens_decoder": {}, "eos_token": "<E>"}, {"special_tokens_map": {"eos_token": "<never read>"}}),
]


@pytest.mark.parametrize(("config", "files"), LEGACY)
def test_older_files_count_as_they_do_for_transformers(
    make_model: MakeModel, reference: Reference, config: dict[str, Any], files: dict[str, Any]
) -> None:
    path = make_model("byte_level", config, **files)
    ours, theirs = TextModel.load(path), reference(path)
    test_special_tokens_equal_those_of_transformers(ours, theirs)
    for text in (*TEXTS, "a <B> b <E>c <X> <V> the <plain words> <Y><Z>"):
        assert_equal(ours, theirs, text)


def test_a_saved_truncation_or_padding_does_not_touch_a_prompt(make_model: MakeModel, reference: Reference) -> None:
    path = make_model("byte_level")
    described = json.loads((path / "tokenizer.json").read_text())
    described["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    described["padding"] = {
        "strategy": {"Fixed": 50},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 7,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }
    (path / "tokenizer.json").write_text(json.dumps(described))
    text = "one two three four five six"
    assert TextModel.load(path).encode(text) == reference(path).encode(text)


def test_special_tokens_are_split_where_the_config_says_so(make_model: MakeModel, reference: Reference) -> None:
    path = make_model("byte_level", {"split_special_tokens": True})
    text = "<|im_start|>user<think>"
    assert TextModel.load(path).encode(text) == reference(path).encode(text)


def test_context_length_and_vocabulary_come_from_the_config(make_model: MakeModel) -> None:
    load = TextModel.load
    assert load(make_model("words", config={"model_max_length": 10**30})).context_length is None
    assert load(make_model("words", config={"model_max_length": 2048})).context_length == 2048
    path = make_model("words", config={"model_max_length": 2048})
    (path / "config.json").write_text('{"text_config": {"max_position_embeddings": 4096, "vocab_size": 1000}}')
    assert (load(path).context_length, load(path).vocabulary) == (4096, 1000)


@pytest.mark.parametrize(
    ("config", "generation", "eos"),
    [
        ({"eos_token_id": 5}, {}, {5}),
        ({"eos_token_id": [5, 6]}, {}, {5, 6}),
        ({"text_config": {"eos_token_id": 8}}, {}, {8}),
        ({"eos_token_id": 5}, {"eos_token_id": [9, 10]}, {9, 10}),
        ({}, {}, set()),
    ],
)
def test_every_token_that_ends_a_turn_is_known(
    make_model: MakeModel, config: dict[str, Any], generation: dict[str, Any], eos: set[int]
) -> None:
    path = make_model("byte_level", generation_config=generation)
    (path / "config.json").write_text(json.dumps(config))
    model = TextModel.load(path)
    assert model.eos_tokens == eos | set(model.encode("<|im_end|>"))


def test_ids_that_stand_for_nothing_give_nothing(model: TextModel) -> None:
    unknown = [model.vocabulary + 5, 2**31]
    assert model.decode(unknown) == ""
    assert model.pieces(unknown) == ["", ""]


@pytest.mark.parametrize("token", [-1, 2**32, 2**80])
def test_what_is_no_token_id_is_refused_by_name(model: TextModel, token: int) -> None:
    for call in (model.decode, model.pieces):
        with pytest.raises(InvalidParams) as refused:
            call([1, token])
        assert refused.value.data["errors"][0]["loc"] == ["tokens"]


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("tokenizer.json", "{", "tokenizer.json"),
        ("tokenizer.json", '{"version": "1.0"}', "tokenizer.json"),
        ("tokenizer_config.json", "{'a': 1}", "tokenizer_config.json"),
        ("config.json", "[]", "config.json"),
        ("generation_config.json", "\udcff", "generation_config.json"),
        ("config.json", "[" * 100_000, "config.json"),
        ("tokenizer_config.json", '{"chat_template": 5}', "chat_template"),
        ("tokenizer_config.json", '{"chat_template": [{"name": "default"}]}', "chat_template"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": "y"}}', "special tokens"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"1": {}}}', "special tokens"),
        ("tokenizer_config.json", '{"eos_token": {"lstrip": true}}', "special tokens"),
    ],
)
def test_a_broken_file_is_named(make_model: MakeModel, file: str, content: str, named: str) -> None:
    path = make_model("words")
    (path / file).write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ModelLoadFailed) as failed:
        TextModel.load(path, name="some/model")
    assert named in failed.value.message
    assert failed.value.data["model"] == "some/model"


def test_a_directory_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=r"no tokenizer\.json"):
        TextModel.load(tmp_path)
    with pytest.raises(ModelLoadFailed, match="does not exist"):
        TextModel.load(tmp_path / "absent")


def test_a_model_without_a_chat_template_refuses_messages_by_name(model: TextModel) -> None:
    assert not model.has_chat_template
    with pytest.raises(UnsupportedParameter) as refused:
        model.render([{"role": "user", "content": "Hi"}])
    assert refused.value.data["name"] == "messages"
    assert refused.value.data["because"] == "the model has no chat template"


@pytest.fixture(scope="module")
def sentencepiece_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a SentencePiece model and no tokenizer.json."""
    import sentencepiece

    path = tmp_path_factory.mktemp("sentencepiece")
    text = "The engine answers. It's a small engine, and it answers all the same. Numbers 0123456789.\n" * 20
    (path / "text").write_text(text)
    sentencepiece.SentencePieceTrainer.train(
        input=str(path / "text"),
        model_prefix=str(path / "tokenizer"),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (path / "config.json").write_text('{"model_type": "llama"}')
    return path


def test_a_directory_without_tokenizer_json_is_read_through_transformers(
    sentencepiece_path: Path, reference: Reference
) -> None:
    ours, theirs = TextModel.load(sentencepiece_path), reference(sentencepiece_path)
    for text in TEXTS:
        assert_equal(ours, theirs, text)
    assert ours.bos == theirs.bos_token_id
    assert theirs.eos_token_id in ours.eos_tokens


def test_a_tokenizer_written_in_python_serves_too(tmp_path: Path, reference: Reference) -> None:
    letters = {"<unk>": 0, "</s>": 1, "a": 2, "b": 3, "b</w>": 4, "ab</w>": 5}
    (tmp_path / "vocab.json").write_text(json.dumps(letters))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "CTRLTokenizer", "unk_token": "<unk>"}')
    (tmp_path / "config.json").write_text('{"model_type": "ctrl"}')
    ours, theirs = TextModel.load(tmp_path), reference(tmp_path)
    assert_equal(ours, theirs, "ab aab")
    tokens = ours.encode("ab b aab ab")
    detokenizer = detokenizer_of(ours.table(), ours.decode, skip_special=False)
    assert "".join(map(detokenizer.push, tokens)) + detokenizer.finish() == ours.decode(tokens)
    assert ours.decode([99]) == ""


def test_a_tokenizer_file_that_transformers_cannot_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelLoadFailed, match="transformers cannot read"):
        TextModel.load(tmp_path)


@pytest.mark.parametrize("auto_map", [{"AutoTokenizer": ["own.Tokenizer", None]}, ["own.Tokenizer", None]])
def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path, auto_map: Any) -> None:
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto_map}))
    with pytest.raises(ModelUnsupported, match="--trust-remote-code"):
        TextModel.load(tmp_path)


OWN_TOKENIZER = """
from transformers import PreTrainedTokenizer

class Tokenizer(PreTrainedTokenizer):
    vocab_size = 26
    def get_vocab(self): return {chr(97 + i): i for i in range(26)}
    def _tokenize(self, text, **kwargs): return [c for c in text if c in self.get_vocab()]
    def _convert_token_to_id(self, token): return self.get_vocab().get(token, 0)
    def _convert_id_to_token(self, index): return chr(97 + index)
    def convert_tokens_to_string(self, tokens): return "".join(tokens)
"""


@pytest.fixture
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder to which transformers copies code before it imports it."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.mark.usefixtures("_own_modules")
def test_code_that_comes_with_a_model_is_run_for_those_who_trust_it(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "own.py").write_text(OWN_TOKENIZER)
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}))
    text = TextModel.load(model, trust_remote_code=True)
    assert text.encode("abc", add_special=False) == [0, 1, 2]
    assert text.decode([2, 1, 0]) == "cba"


@pytest.mark.usefixtures("_own_modules")
def test_code_of_a_model_that_tries_to_leave_fails_its_load(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("raise SystemExit('out')")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["own.Leaver", None]}}))
    with pytest.raises(ModelLoadFailed, match="cannot read its tokenizer"):
        TextModel.load(tmp_path, trust_remote_code=True)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja", "generation_config.json"]
)
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(make_model: MakeModel, name: str) -> None:
    path = make_model("byte_level")
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    with pytest.raises(ModelLoadFailed, match=f"{name} is no regular file"):
        TextModel.load(path)


def test_a_device_behind_a_link_is_no_file(make_model: MakeModel) -> None:
    path = make_model("byte_level")
    (path / "chat_template.jinja").symlink_to("/dev/zero")
    with pytest.raises(ModelLoadFailed, match=r"chat_template\.jinja is no regular file"):
        TextModel.load(path)


@pytest.mark.parametrize(
    ("name", "limit"), [("tokenizer.json", TOKENIZER_LIMIT_BYTES), ("special_tokens_map.json", FILE_LIMIT_BYTES)]
)
def test_a_file_that_is_too_large_to_be_read_whole_is_refused(make_model: MakeModel, name: str, limit: int) -> None:
    path = make_model("byte_level")
    with (path / name).open("wb") as file:
        file.truncate(limit + 1)
    with pytest.raises(ModelLoadFailed, match=f"the limit is {limit}"):
        TextModel.load(path)


def test_nothing_heavy_is_imported_before_it_is_needed(make_model: MakeModel) -> None:
    path = make_model("byte_level", {"chat_template": "{{ messages[0].content }}"})
    code = f"""
import sys
import mlx_sidecar.text.server, mlx_sidecar.text.templates
from mlx_sidecar.text.tokenizer import TextModel
from pathlib import Path
heavy = ("jinja2", "tokenizers", "transformers", "mlx", "mlx_lm", "numpy")
assert not [name for name in heavy if name in sys.modules], "at import"
model = TextModel.load(Path({str(path)!r}))
assert [name for name in heavy if name in sys.modules] == ["tokenizers"], "after loading"
model.render([{{"role": "user", "content": "Hi"}}])
assert [name for name in heavy if name in sys.modules] == ["jinja2", "tokenizers"], "after rendering"
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


@pytest.mark.parametrize(("kind", "bos"), [("llama_like", "<s>"), ("byte_level_with_bos", "<|begin_of_text|>")])
def test_a_prompt_that_begins_with_bos_gets_no_second_one(make_model: MakeModel, kind: str, bos: str) -> None:
    model = TextModel.load(make_model(kind))
    for text in (bos, f"{bos}x", f"{bos}{bos}x", f"{bos} the engine {bos}"):
        assert model.encode_prompt(text) == model.encode(text, add_special=False)
    for text in ("", "x", f" x{bos}", bos[:-1]):
        assert model.encode_prompt(text) == model.encode(text, add_special=True)
        assert model.encode_prompt(text)[0] == model.bos
    assert model.encode_prompt(f"{bos}x", False) == model.encode(f"{bos}x", add_special=False)


@pytest.mark.parametrize("kind", ["byte_level", "gemma_like", "unigram", "word_piece"])
def test_what_the_tokenizer_puts_around_a_prompt_is_there_once(make_model: MakeModel, kind: str) -> None:
    model = TextModel.load(make_model(kind))
    around = model.pieces(model.encode(""))
    for text in ("x", "the engine", "<s>x", "[CLS] x", "</s>x</s>", "<|im_start|><|im_start|>x"):
        expected = model.encode(text)
        if kind in ("word_piece", "gemma_like") and text.startswith(around[0]):
            expected = expected[1:]
        assert model.encode_prompt(text) == expected

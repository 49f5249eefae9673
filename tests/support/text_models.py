"""Small tokenizers of every kind that models come with, made on the fly, each in a directory like a model's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mlx_sidecar.text.tokenizer import TextModel

CORPUS = [
    "The engine answers over standard input and standard output, one frame for each message.",
    "A stream is cancelled by its name; it's answered all the same, isn't it?",
    "def add(a, b):\n    return a + b\n\n\nprint(add(2, 40))",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Ça va, naïve café?",
    "日本語のテキストと中文文本，也有标点。 Привет, мир! שלום",
    "numbers 1234567890 and 3.14159, punctuation: (brackets) [more] {even} <angle> & so on...",
] * 4
SPECIAL_CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKERS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]


def byte_level(size: int = 600) -> tuple[Tokenizer, dict[str, Any]]:
    """As Qwen: byte-level BPE, no BOS, markers that are added but not special; ``size`` counts the other tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet))
    tokenizer.add_special_tokens(SPECIAL_CHATML)
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in MARKERS])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None}


def byte_level_with_bos() -> tuple[Tokenizer, dict[str, Any]]:
    """As Llama 3: a split by regular expression, and a BOS from the post-processor, whatever the config says."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(r"\p{N}{1,3}| ?\p{L}+|\s+(?!\S)|\s+|[^\s\p{L}\p{N}]+"), "isolated")
    steps = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens(special)
    bos = ("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))
    template = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), template])
    return tokenizer, {"bos_token": bos[0], "eos_token": "<|eot_id|>", "add_bos_token": False}


def _sentencepiece(normalizer: Any, last: list[Any]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizer
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *last]
    tokenizer.decoder = decoders.Sequence(steps)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    ascii_only = ["".join(c for c in line if ord(c) < 0x250) for line in CORPUS]
    tokenizer.train_from_iterator(ascii_only, trainers.BpeTrainer(vocab_size=700, special_tokens=special))
    described = json.loads(tokenizer.to_str())  # the trainer made the bytes special tokens; they are ordinary ones
    described["added_tokens"] = described["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(described))
    bos = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [bos])
    return tokenizer


def llama_like() -> tuple[Tokenizer, dict[str, Any]]:
    """As Llama 2: a space before the first word, which decoding takes away again; byte fallback."""
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = _sentencepiece(normalizer, [decoders.Strip(" ", 1, 0)])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def gemma_like() -> tuple[Tokenizer, dict[str, Any]]:
    """As Gemma: byte fallback, and no space before the first word."""
    tokenizer = _sentencepiece(normalizers.Replace(" ", "▁"), [])
    tokenizer.add_special_tokens(["<start_of_turn>", "<end_of_turn>"])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def unigram() -> tuple[Tokenizer, dict[str, Any]]:
    """As T5: Unigram with Metaspace, and an end token on every encoding."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    eos = ("</s>", tokenizer.token_to_id("</s>"))
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", None, [eos])
    return tokenizer, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "add_eos_token": False}


def metaspace_never() -> tuple[Tokenizer, dict[str, Any]]:
    """Metaspace that puts nothing before the first word."""
    tokenizer, config = unigram()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return tokenizer, config


def word_piece() -> tuple[Tokenizer, dict[str, Any]]:
    """As BERT: a decoder that joins ``##`` and cleans up spaces."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    around = [(token, tokenizer.token_to_id(token)) for token in special[1:]]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, around)
    return tokenizer, {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def end_of_word() -> tuple[Tokenizer, dict[str, Any]]:
    """BPE with ``</w>``: whether a token gives a space depends on whether another follows."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], end_of_word_suffix="</w>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer, {"unk_token": "<unk>"}


def words() -> tuple[Tokenizer, dict[str, Any]]:
    """No decoder at all: words joined by spaces."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(CORPUS, trainers.WordLevelTrainer(special_tokens=["<unk>"]))
    return tokenizer, {"unk_token": "<unk>"}


def flagged() -> tuple[Tokenizer, dict[str, Any]]:
    """Added tokens with every flag, some described anew, some only, by tokenizer_config.json."""
    tokenizer, config = byte_level()
    size = tokenizer.get_vocab_size()
    tokenizer.add_tokens([AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True), AddedToken("<plain>")])
    described = {
        str(size): {"content": "<left>", "lstrip": True, "special": True},
        str(size + 2): {"content": "<plain>", "single_word": True, "rstrip": True, "normalized": False},
        str(size + 3): {"content": "<new>", "lstrip": True, "rstrip": True, "normalized": True, "special": False},
    }
    extra = {"additional_special_tokens": ["<more>", "<right>"], "image_token": "<image>", "bos_token": "<bos>"}
    return tokenizer, {**config, **extra, "added_tokens_decoder": described}


KINDS: dict[str, Callable[[], tuple[Tokenizer, dict[str, Any]]]] = {
    kind.__name__: kind
    for kind in (
        byte_level,
        byte_level_with_bos,
        llama_like,
        gemma_like,
        unigram,
        metaspace_never,
        word_piece,
        end_of_word,
        words,
        flagged,
    )
}


def write_model(path: Path, tokenizer: Tokenizer, config: dict[str, Any], **files: Any) -> Path:
    """A model directory. ``files``: further files by stem, as JSON."""
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path / "tokenizer.json"))
    files["tokenizer_config"] = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
    for stem, value in files.items():
        (path / f"{stem}.json").write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture(scope="session", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def model_path(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer of ``kind``."""
    return write_model(tmp_path_factory.mktemp(kind), *KINDS[kind]())


@pytest.fixture(scope="session")
def model(model_path: Path) -> TextModel:
    return TextModel.load(model_path)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a model directory with a tokenizer of the kind named, extra config, and further files."""

    def make(kind: str, config: dict[str, Any] | None = None, **files: Any) -> Path:
        tokenizer, own = KINDS[kind]()
        return write_model(tmp_path_factory.mktemp(kind), tokenizer, own | (config or {}), **files)

    return make


@pytest.fixture(scope="session")
def reference() -> Callable[[Path], Any]:
    """Loads a directory as transformers does."""
    from transformers import AutoTokenizer

    return lambda path: AutoTokenizer.from_pretrained(path, local_files_only=True)

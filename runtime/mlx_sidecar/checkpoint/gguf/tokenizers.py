"""Rebuilds tokenizer.json, tokenizer_config.json and the ids that end a turn from the metadata of a GGUF file.

Of the kinds of GGUF's tokenizers two are rebuilt: byte-level BPE ("gpt2"), and SentencePiece's BPE ("llama"), whose
merges are not in the file and follow from its scores.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from .metadata import Metadata
from .pre_tokenizers import SPLITTINGS, Json, Splitting

_SPACE = "▁"
_PREFIX = "tokenizer.ggml."
# Keys of special tokens, and their names in tokenizer_config.json, which has none for some.
_NAMED = {
    "bos": "bos_token",
    "eos": "eos_token",
    "unknown": "unk_token",
    "padding": "pad_token",
    "seperator": "sep_token",  # spelled so in GGUF
    "mask": "mask_token",
    "eot": None,
    "eom": None,
}
# Texts of tokens that end a turn, which files often do not name otherwise.
_ENDS_OF_TURN = {
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
}
# Said of tokenizers that are not rebuilt, or of tasks beside generation.
_UNUSED_KEYS = ("token_type_count", "add_sep_token", "cls_token_id", "scores")
_FILL_IN_THE_MIDDLE = ("prefix", "suffix", "middle", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")
_TEMPLATES_LIMIT = 64
# Characters of a token, and of all: the longest token in use has 128, and 262,144 tokens have 1.7 million. The work of
# finding merges grows with the square of the one and with the other.
_TOKEN_LIMIT, _TOKENS_LIMIT = 1024, 8 * 2**20


class Kind(IntEnum):
    """The kind of a token, in GGUF's numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class TokenizerFiles(NamedTuple):
    """``tokenizer`` and ``settings`` are tokenizer.json and tokenizer_config.json. ``ends`` are ids that end a turn.

    ``special`` maps the names of special tokens (bos, eos, padding …) to their ids.
    """

    tokenizer: Json
    settings: Json
    special: dict[str, int]
    ends: list[int]


class _Vocabulary(NamedTuple):
    texts: list[str]
    ids: dict[str, int]
    kinds: list[int]
    special: dict[str, int]


def rebuild(meta: Metadata, context_length: int) -> TokenizerFiles:
    """The tokenizer that ``meta`` describes.

    Raises ModelUnsupported naming a key or value that is not known, ModelLoadFailed naming one that cannot be.
    """
    kind = meta.text(_PREFIX + "model")
    if kind not in ("gpt2", "llama"):
        raise meta.unsupported(_PREFIX + "model", f"tokenizers of the kind {kind!r} are not rebuilt")
    vocabulary = _vocabulary(meta)
    if kind == "gpt2":
        model, splitting = _byte_level(meta, vocabulary)
        adds_bos = meta.flag(_PREFIX + "add_bos_token", splitting.adds_bos)
        meta.skip([_PREFIX + "add_space_prefix"])  # byte-level tokenizers have none
    else:
        model = _sentencepiece(meta, vocabulary)
        adds_bos = meta.flag(_PREFIX + "add_bos_token", default=True)
    adds_eos = meta.flag(_PREFIX + "add_eos_token", default=False)
    made: Json = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(meta, vocabulary),
        **model,
        "post_processor": _around(meta, vocabulary, adds_bos=adds_bos, adds_eos=adds_eos),
    }
    settings = _settings(meta, vocabulary, context_length) | {"add_bos_token": adds_bos, "add_eos_token": adds_eos}
    meta.skip(f"{_PREFIX}{name}" for name in _UNUSED_KEYS)
    meta.skip(f"{_PREFIX}{name}_token_id" for name in _FILL_IN_THE_MIDDLE)
    meta.refuse_unread(_PREFIX)
    return TokenizerFiles(made, settings, vocabulary.special, _ends(vocabulary))


def _vocabulary(meta: Metadata) -> _Vocabulary:
    texts = meta.texts(key := _PREFIX + "tokens")
    # An empty text stands for nothing, and two of them would be one token.
    texts = [text or f"[EMPTY_{token}]" for token, text in enumerate(texts)]
    if max(map(len, texts), default=0) > _TOKEN_LIMIT or sum(map(len, texts)) > _TOKENS_LIMIT:
        raise meta.damaged(key, f"a token has more than {_TOKEN_LIMIT} characters, or all more than {_TOKENS_LIMIT}")
    ids = {text: token for token, text in enumerate(texts)}
    if len(ids) < len(texts):
        raise meta.damaged(key, "two tokens have one text")
    if _PREFIX + "token_type" in meta:
        kinds = [int(kind) for kind in meta.numbers(_PREFIX + "token_type", len(texts), "iu")]
    else:
        kinds = [int(Kind.NORMAL)] * len(texts)
    special: dict[str, int] = {}
    for name in _NAMED:
        if (token := meta.optional_count(f"{_PREFIX}{name}_token_id")) is None:
            continue
        if token >= len(texts):
            raise meta.damaged(f"{_PREFIX}{name}_token_id", f"{token} is no token of {len(texts)}")
        special[name] = token
    return _Vocabulary(texts, ids, kinds, special)


def _byte_level(meta: Metadata, vocabulary: _Vocabulary) -> tuple[Json, Splitting]:
    pre = meta.text(key := _PREFIX + "pre")
    if pre not in SPLITTINGS:
        raise meta.unsupported(key, f"{pre!r} is not known")
    splitting, ids = SPLITTINGS[pre], vocabulary.ids
    merges: list[list[str]] = []
    for merge in meta.texts(key := _PREFIX + "merges"):
        first, second = merge[:1] + merge[1:].partition(" ")[0], merge[1:].partition(" ")[2]
        if first not in ids or second not in ids or first + second not in ids:
            raise meta.damaged(key, f"{merge[:64]!r} joins what are no tokens")
        merges.append([first, second])
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {
        "normalizer": None,
        "pre_tokenizer": splitting.json(),
        "decoder": bytes_,
        "model": _bpe(ids, merges, ignore_merges=splitting.whole_words),
    }
    return model, splitting


def _sentencepiece(meta: Metadata, vocabulary: _Vocabulary) -> Json:
    if (pre := meta.text(key := _PREFIX + "pre", "default")) != "default":
        raise meta.unsupported(key, f"{pre!r} is not known for SentencePiece")
    if meta.flag(key := _PREFIX + "remove_extra_whitespaces", default=False):
        raise meta.unsupported(key, "spaces are not removed")
    prefix = meta.flag(_PREFIX + "add_space_prefix", default=True)
    spaces: list[Json] = [{"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}]
    before: list[Json] = [{"type": "Prepend", "prepend": _SPACE}] if prefix else []
    after: list[Json] = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    decoders = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        *after,
    ]
    unknown = vocabulary.special.get("unknown")
    if unknown is None:
        unknown = next((token for token, kind in enumerate(vocabulary.kinds) if kind == Kind.UNKNOWN), None)
    # Where every byte has a token nothing is unknown.
    fallback = all(f"<0x{byte:02X}>" in vocabulary.ids for byte in range(256))
    if not fallback and unknown is None:
        raise meta.damaged(_PREFIX + "tokens", "neither bytes nor the unknown have tokens")
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*before, *spaces]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(
            vocabulary.ids,
            _merges(meta, vocabulary),
            byte_fallback=fallback,
            fuse_unk=True,
            unk_token=None if unknown is None else vocabulary.texts[unknown],
        ),
    }


def _merges(meta: Metadata, vocabulary: _Vocabulary) -> list[list[str]]:
    """All pairs of tokens that together are a token, the one with the highest score first.

    SentencePiece joins the pair that gives the best token. Only what a text may become takes part.
    """
    scores = meta.numbers(_PREFIX + "scores", len(vocabulary.texts)).tolist()
    ids = {
        text: token
        for token, (text, kind) in enumerate(zip(vocabulary.texts, vocabulary.kinds, strict=True))
        if kind in (Kind.NORMAL, Kind.USER_DEFINED)
    }
    found = [
        (-scores[token], token, ids[text[:cut]], ids[text[cut:]])
        for text, token in ids.items()
        for cut in range(1, len(text))
        if text[:cut] in ids and text[cut:] in ids
    ]
    return [[vocabulary.texts[first], vocabulary.texts[second]] for _, _, first, second in sorted(found)]


def _bpe(vocabulary: dict[str, int], merges: list[list[str]], **given: Any) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **given,
        "vocab": vocabulary,
        "merges": merges,
    }


def _added(meta: Metadata, vocabulary: _Vocabulary) -> list[Json]:
    """Tokens that are found in a text before it is split. Named ones are special whatever the file says of them."""
    named = set(vocabulary.special.values())
    # Phi-3's markers take the spaces behind them, which GGUF does not keep.
    strips = meta.text("general.architecture", "") == "phi3" and meta.text(_PREFIX + "model") == "llama"
    added: list[Json] = []
    for token, (text, kind) in enumerate(zip(vocabulary.texts, vocabulary.kinds, strict=True)):
        special = kind in (Kind.CONTROL, Kind.UNKNOWN) or token in named
        if special or kind == Kind.USER_DEFINED:
            keeps = text in ("<unk>", "<s>", "<|endoftext|>")
            flags = {"single_word": False, "lstrip": False, "rstrip": strips and not keeps, "normalized": False}
            added.append({"id": token, "content": text, **flags, "special": special})
    return added


def _around(meta: Metadata, vocabulary: _Vocabulary, *, adds_bos: bool, adds_eos: bool) -> Json | None:
    """The ``post_processor`` that puts BOS before a text and EOS behind it, where the model wants them."""
    names = [name for name, wanted in (("bos", adds_bos), ("eos", adds_eos)) if wanted]
    for name in names:
        if name not in vocabulary.special:
            raise meta.damaged(f"{_PREFIX}{name}_token_id", f"it is missing, and add_{name}_token is set")
    if not names:
        return None
    texts = {name: vocabulary.texts[vocabulary.special[name]] for name in names}

    def around(sequence: str, type_id: int) -> list[Json]:
        tokens = {name: {"SpecialToken": {"id": text, "type_id": type_id}} for name, text in texts.items()}
        inner = {"Sequence": {"id": sequence, "type_id": type_id}}
        return [*([tokens["bos"]] if adds_bos else []), inner, *([tokens["eos"]] if adds_eos else [])]

    described = {
        text: {"id": text, "ids": [vocabulary.special[name]], "tokens": [text]} for name, text in texts.items()
    }
    both = [*around("A", 0), *around("B", 1)]
    return {"type": "TemplateProcessing", "single": around("A", 0), "pair": both, "special_tokens": described}


def _settings(meta: Metadata, vocabulary: _Vocabulary, context_length: int) -> Json:
    settings: Json = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
    }
    for name, token in vocabulary.special.items():
        if (key := _NAMED[name]) is not None:
            settings[key] = vocabulary.texts[token]
    if templates := _templates(meta):
        others = [{"name": name, "template": text} for name, text in templates.items()]
        settings["chat_template"] = templates["default"] if list(templates) == ["default"] else others
    return settings


def _templates(meta: Metadata) -> dict[str, str]:
    """Chat templates by name; the one without a name in the file is the default."""
    key = "tokenizer.chat_template"
    named = meta.keys(key + ".")
    if len(named) > _TEMPLATES_LIMIT:
        raise meta.damaged(key, f"there are more than {_TEMPLATES_LIMIT}")
    templates = {"default": meta.text(key)} if key in meta else {}
    return templates | {each.removeprefix(key + "."): meta.text(each) for each in named}


def _ends(vocabulary: _Vocabulary) -> list[int]:
    """EOS first, then other tokens that end a turn: those the file names, and those with a text that says so."""
    named = [vocabulary.special[name] for name in ("eos", "eot", "eom") if name in vocabulary.special]
    control = (Kind.CONTROL, Kind.USER_DEFINED)
    by_text = [
        token
        for token, (text, kind) in enumerate(zip(vocabulary.texts, vocabulary.kinds, strict=True))
        if text in _ENDS_OF_TURN and kind in control
    ]
    return list(dict.fromkeys([*named, *by_text]))

"""Members of tokenizer.json that have done harm, and others of their kind."""

from __future__ import annotations

from typing import Any

Member = dict[str, Any]


def _split(regex: str, behavior: str = "Isolated") -> Member:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": False}


def _replace(pattern: Member, content: str) -> Member:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _sequence(kind: str, *members: Member) -> Member:
    return {"type": "Sequence", kind: list(members)}


def _template(single: list[Member], special: Member) -> Member:
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}


_A = {"Sequence": {"id": "A", "type_id": 0}}
_NONE = {"SpecialToken": {"id": "none", "type_id": 0}}
_ANY = {"Regex": "."}


def _token(id_: int, content: str, **flags: bool) -> Member:
    usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": id_, "content": content, **usual, **flags}


PRE_TOKENIZERS: list[Member] = [
    {"type": "FixedLength", "length": 0},
    {"type": "FixedLength", "length": 2**63 - 1},
    {"type": "FixedLength", "length": 1},
    _split(""),
    _split("^"),
    _split("$"),
    _split("(?=.)"),
    _split("(?<=a)b|", "MergedWithPrevious"),
    _split("\\p{L}", "Removed"),
    _split("(", "Removed"),
    _split("a{1,1000}{1,1000}"),
    _split("[\\x{D800}-\\x{DFFF}]"),
    _split("(?:" * 3000 + ")" * 3000),
    {"type": "Punctuation", "behavior": "Contiguous"},
    {"type": "Digits", "individual_digits": True},
    {"type": "CharDelimiterSplit", "delimiter": "\u0301"},
    {"type": "Metaspace", "replacement": "", "prepend_scheme": "always", "split": True},
    {"type": "Metaspace", "replacement": "▁▁", "prepend_scheme": "first"},
    {"type": "UnicodeScripts"},
    {"type": "Bert"},
    _sequence("pretokenizers"),
    _sequence("pretokenizers", *[{"type": "Whitespace"}] * 500),
]

NORMALIZERS: list[Member] = [
    _replace({"String": ""}, "x"),
    _replace({"Regex": ""}, "x"),
    _replace({"Regex": "^"}, "xx"),
    _replace({"Regex": "(?=.)"}, "\x00"),
    _replace(_ANY, ""),
    _replace(_ANY, "x" * 10_000),
    _sequence("normalizers", *[_replace(_ANY, "xx")] * 10),
    _sequence("normalizers"),
    {"type": "Prepend", "prepend": ""},
    {"type": "Prepend", "prepend": "x" * 100_000},
    {"type": "Precompiled", "precompiled_charsmap": ""},
    {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
    {"type": "Precompiled", "precompiled_charsmap": "/////wAAAAA="},
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "NFKD"},
    _sequence("normalizers", {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, {"type": "Nmt"}),
    {"type": "ByteLevel"},
    {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
]

POST_PROCESSORS: list[Member] = [
    _template([_NONE, _A], {}),
    _template([_NONE, _A], {"none": {"id": "none", "ids": [2**32 - 1], "tokens": ["none"]}}),
    _template([_NONE, _A], {"none": {"id": "none", "ids": [], "tokens": []}}),
    _template([_NONE, _A], {"none": {"id": "none", "ids": [1, 2], "tokens": ["none"]}}),
    _template([_NONE] * 10_000, {"none": {"id": "none", "ids": [1], "tokens": ["none"]}}),
    _template([_A] * 3, {}),
    _template([], {}),
    {"type": "BertProcessing", "sep": ["x", 2**32 - 1], "cls": ["", 0]},
    {"type": "RobertaProcessing", "sep": ["x", 1], "cls": ["", 0], "trim_offsets": True, "add_prefix_space": True},
    _sequence("processors", *[{"type": "ByteLevel"}] * 100),
]

DECODERS: list[Member] = [
    _replace({"Regex": "(.+)+$^"}, ""),
    _replace({"String": ""}, "x"),
    _replace(_ANY, "x" * 1000),
    {"type": "WordPiece", "prefix": "", "cleanup": True},
    {"type": "Strip", "content": "x", "start": 2**40, "stop": 2**40},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "BPEDecoder", "suffix": ""},
    {"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": True},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    _sequence("decoders"),
    _sequence("decoders", {"type": "Fuse"}, {"type": "ByteFallback"}, _replace({"String": "▁"}, " ")),
]

MODELS: list[Member] = [
    {"type": "BPE", "vocab": {}, "merges": []},
    {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"], "continuing_subword_prefix": "x" * 40},
    {"type": "BPE", "vocab": {"a": 0, "é": 1, "aé": 2}, "merges": [["a", "é"]], "continuing_subword_prefix": "##"},
    {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]},
    {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []},
    {"type": "BPE", "vocab": {"a": 2**32 - 1}, "merges": []},
    {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 1.0},
    {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": -1.0},
    {"type": "BPE", "vocab": {"": 0}, "merges": [["", ""]]},
    {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "none", "byte_fallback": True, "fuse_unk": True},
    {
        "type": "WordPiece",
        "vocab": {"a": 0},
        "unk_token": "none",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 0,
    },
    {
        "type": "WordPiece",
        "vocab": {},
        "unk_token": "",
        "continuing_subword_prefix": "",
        "max_input_chars_per_word": 2**62,
    },
    {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "none"},
    {"type": "Unigram", "vocab": [], "unk_id": None},
    {"type": "Unigram", "vocab": [["a", 1e308], ["b", -1e308]], "unk_id": 7},
    {"type": "Unigram", "vocab": [["", 0.0], ["a", 0.0]], "unk_id": 0, "byte_fallback": True},
    {"type": "Unigram", "vocab": [["a" * 10_000, 0.0]], "unk_id": 0},
]

ADDED: list[list[Member]] = [
    [],
    [_token(0, "")],
    [_token(2**32 - 1, "<|far|>")],
    [_token(5, "a"), _token(5, "b")],
    [_token(0, "<|im_end|>", normalized=True), _token(1, "<|im_end|>", special=False)],
    [_token(n, f"<|{n}|>") for n in range(20_000)],
    [_token(0, "x" * 1_000_000)],
    [_token(0, " ", lstrip=True, rstrip=True, single_word=True)],
]

TOKENIZER: list[Member] = [
    *({"pre_tokenizer": each} for each in PRE_TOKENIZERS),
    *({"normalizer": each} for each in NORMALIZERS),
    *({"post_processor": each} for each in POST_PROCESSORS),
    *({"decoder": each} for each in DECODERS),
    *({"model": each} for each in MODELS),
    *({"added_tokens": each} for each in ADDED),
    {"truncation": {"max_length": 0, "stride": 2**40, "strategy": "LongestFirst", "direction": "Right"}},
    {
        "padding": {
            "strategy": {"Fixed": 2**40},
            "direction": "Left",
            "pad_id": 2**32 - 1,
            "pad_token": "",
            "pad_type_id": 0,
        }
    },
]

# Each costs some processor seconds twice, until the model is refused.
SLOW: list[Member] = [
    {"pre_tokenizer": _split("(a+)+$")},
    {"pre_tokenizer": _split("(a|a)*$")},
    {"pre_tokenizer": _split("(?:a|aa|aaa)+b?c")},
    {"normalizer": _replace({"Regex": "(a*)*c"}, "")},
    {"normalizer": _sequence("normalizers", *[_replace(_ANY, "x" * 32)] * 5)},
    {"normalizer": _sequence("normalizers", *[_replace(_ANY, "xx")] * 40)},
    {"normalizer": _sequence("normalizers", *[{"type": "Prepend", "prepend": "x" * 1_000_000}] * 8)},
    {"decoder": _sequence("decoders", *[_replace(_ANY, "x" * 32)] * 6)},
    {"post_processor": _template([_A] * 100_000, {})},
]

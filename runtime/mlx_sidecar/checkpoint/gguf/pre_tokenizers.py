"""How each family of byte-level tokenizers splits a text into words, by GGUF's name in ``tokenizer.ggml.pre``.

A word is what merges stay within. The patterns are of the families' own tokenizers, for the tokenizers library; each
cuts what the ones before it left, and both its matches and what lies between them become words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Json = dict[str, Any]

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT, _DIGITS = r"\p{N}", r"\p{N}{1,3}"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"

# Letters with case, and a word in which capitals come first: a change to a capital begins the next word.
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _cased(after: str) -> str:
    one = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{after}"
    other = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{after}"
    return f"{one}|{other}"


class Splitting(NamedTuple):
    """A family: its patterns in order; ``whole_words`` if a word of the vocabulary is taken without merges.

    ``adds_bos``: a text begins with BOS where the file does not say.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    adds_bos: bool = False

    def json(self) -> Json:
        """The ``pre_tokenizer`` of a tokenizer.json."""
        splits = [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            for pattern in self.patterns
        ]
        to_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return {"type": "Sequence", "pretokenizers": [*splits, to_bytes]}


_LLAMA3 = (f"{_CONTRACTIONS}|{_WORD}|{_DIGITS}|{_SYMBOLS}|{_SPACES}",)
_QWEN2 = (f"{_CONTRACTIONS}|{_WORD}|{_DIGIT}|{_SYMBOLS}|{_SPACES}",)
_MARKED = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"
_QWEN35 = (rf"{_CONTRACTIONS}|{_MARKED}|{_DIGIT}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",)
_TEKKEN = (rf"{_cased('')}|{_DIGIT}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",)
_GPT4O = (rf"{_cased(_CONTRACTIONS + '?')}|{_DIGITS}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",)
_FALCON = (r"[\p{P}$+<=>^~|`]+", _GPT2, r"[0-9][0-9][0-9]")
_CHINESE = r"[一-龥ࠀ-一가-퟿]+"
_DEEPSEEK_LLM = (
    r"[\r\n]",
    r"\s?[\p{Lu}\p{Ll}\p{Lt}]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    _CHINESE,
    r"\p{N}",
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CHINESE, r"\p{N}")
_DEEPSEEK_V3 = (
    _DIGITS,
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
)

SPLITTINGS: dict[str, Splitting] = {
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral"), Splitting(_LLAMA3, True, True)),
    **dict.fromkeys(("dbrx", "smaug-bpe"), Splitting(_LLAMA3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez"), Splitting(_QWEN2)),
    "qwen35": Splitting(_QWEN35),
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "exaone4"), Splitting((_GPT2,))),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), Splitting((_DIGIT, _GPT2))),
    "tekken": Splitting(_TEKKEN, True, True),
    **dict.fromkeys(("gpt-4o", "llama4"), Splitting(_GPT4O)),
    "falcon": Splitting(_FALCON),
    "deepseek-llm": Splitting(_DEEPSEEK_LLM),
    "deepseek-coder": Splitting(_DEEPSEEK_CODER),
    "deepseek-v3": Splitting(_DEEPSEEK_V3),
}

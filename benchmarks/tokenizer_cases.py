"""Cases for the comparison of tokenizers: texts of many kinds, lists of tokens that no text gives, and chats."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

Chat = list[dict[str, Any]]

TEXTS = [
    "",
    " ",
    "The quick brown fox jumps over the lazy dog.",
    "isn't it? I'M SURE they've said so ; he'll do , won't he ?",
    "  two spaces, a\ttab and\n\n\nlines \r\n  \n\t\n  end  ",
    " " * 37 + "x" + "\n" * 9 + "\t" * 5,
    "0 12 345 6789 1234567890 3.14159 1,000,000 1e-10 0x1F ½ ² ٣٤٥ 一二三",
    "def f(x: int) -> str:\n    return f\"{x!r}\"  # {'a': [1, 2]}\n\n\nclass A(B):\n\tpass\n",
    "for (int i = 0; i < n; ++i) { a[i] += b->c * 2; } // ok\n#include <stdio.h>\n",
    '<div class="a">&nbsp;</div> https://example.org/a?b=c&d=%20#e user@example.org C:\\temp\\new',
    "SELECT * FROM t WHERE a = 'b''c' AND d IN (1, 2);--",
    "日本語のテキスト、漢字とひらがなとカタカナ。全角１２３　ＡＢＣ",
    "中文文本，包含标点符号！繁體字也在這裡。「引號」",
    "한국어 텍스트입니다. 띄어쓰기가 있습니다.",
    "هذا نص باللغة العربية، مع تشكيل: كِتَابٌ.",
    "עברית עם ניקוד: שָׁלוֹם",
    "Русский текст, Ёё, and Ελληνικά, και Հայերեն, ქართული",
    "हिन्दी पाठ, ภาษาไทยไม่มีช่องว่าง, తెలుగు, አማርኛ, ខ្មែរ",
    "Ünïcödé déjà vu, naïve façade, e\u0301 n\u0303 (combining), \u1e9b\u0323, ﬁ ligature, ǅ, İı, ß ẞ",
    "👍 👩‍👩‍👧‍👦 🇩🇪 🏳️‍🌈 👋🏽 ☃️ ❤︎ 🫠 1️⃣ 🧑🏿‍🚀",
    "𝕳𝖊𝖑𝖑𝖔 𐍈 𒀀 \U0010ffff \ue000",
    "\x00\x01\x07\x1b[31m\x7f\x85\xa0\xad",
    "\u200b\u200d\u200e\u202e\u2028\u2029\ufeff\ufffd\u3000\u2003",
    "▁under▁score ▁▁ Ġ Ċ <0x0A> <0xE2> ## ##ing </w> @@",
    "<s> </s> <unk> <pad> [INST] hello [/INST] <<SYS>> <bos><eos> <start_of_turn>user <end_of_turn>",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|><|begin_of_text|><|eot_id|> <think>hm</think> <|im_start",
    "<|start_header_id|>x<|end_header_id|> <tool_call>{}</tool_call> <｜User｜>a<｜Assistant｜> <|channel|>",
    "a" * 300,
    "antidisestablishmentarianism" * 8 + "ß" * 50 + "😀" * 20,
    "((((((((((----------==========........!!!!!!!!!!~~~~~~~~~~",
    "mixed日本wordsとtext和中文und한국어with😀emoji",
]

CALLED = "Paris"  # in the chat with a call, and in no other
_TOOL_CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": CALLED, "days": 3}}}
CHATS: list[Chat] = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "  What is 2 + 2?\n"}],
    [
        {"role": "user", "content": "Grüß Gott 👋"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "日本語？ <b>&amp;</b> {{ x }} {% y %}"},
    ],
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    [{"role": "user", "content": ""}],
    [
        {"role": "user", "content": "And the weather?"},
        {"role": "assistant", "content": "", "tool_calls": [_TOOL_CALL]},
        {"role": "tool", "name": "weather", "content": '{"sun": true}'},
    ],
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city, é and <all>.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def with_special(special: Sequence[str]) -> list[str]:
    """Return texts with some of a tokenizer's own special tokens: at the ends, glued to words, in a row."""
    some = [*special[:4], *special[-2:]]
    return [f"a {token} b{token}c\n{token}\n" for token in some] + ["".join(some), " ".join(some)]


def token_lists(vocabulary: int, pieces: Sequence[str], count: int) -> list[list[int]]:
    """Return lists of tokens as a model may sample them: any, and runs of single bytes or characters.

    ``pieces``: the vocabulary's string for each token. The same lists at every call.
    """
    drawn = random.Random(vocabulary)
    short = [token for token, piece in enumerate(pieces) if len(piece) == 1 or _is_byte(piece)]
    anything = range(vocabulary)
    lists = []
    for number in range(count):
        source: Sequence[int] = short if number % 2 and short else anything
        lists.append(drawn.choices(source, k=24))
    return lists


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x")

"""Twenty prompts for the real model, from 5 to 1,000 tokens: prose, code, chats, lists, other scripts, digits."""

from __future__ import annotations

from typing import Final

from tokenizers import Tokenizer

from real_model import MODEL

_LOG = " ".join(
    f"On day {day} the ship sailed {3 * day + 7} miles to the east, and the crew was well." for day in range(1, 60)
)
_STORY = (
    "Anna lived in a small house at the end of the village, between the mill and the forest. Every morning she fed "
    "the hens, fetched water from the well and walked to the market, where she sold eggs and bread. One day in spring "
    "an old man came to her table. He wore a green coat, carried a heavy bag and asked her for the way to the sea. "
    "Anna told him that the sea was far away, three days on foot, and that nobody from the village had ever been "
    "there. The old man smiled, opened his bag and"
)
_CODE = (
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n\n\n"
    "def factorial(n):\n    if n < 2:\n        return 1\n    return n * factorial(n - 1)\n\n\ndef add(a, b):\n"
)
_CHAT = "<|im_start|>user\nWhat is the capital of France? Answer with one word.<|im_end|>\n<|im_start|>assistant\n"

# (tokens, text): a text is cut to its tokens, and is long enough for them.
_CUTS: Final = [
    (5, "The capital of France is Paris"),
    (6, "Once upon a time there was"),
    (7, "one two three four five six seven eight"),
    (8, "import numpy as np\nimport pandas as pd\n"),
    (10, "The quick brown fox jumps over the lazy dog. The quick"),
    (12, "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    (14, "1, 2, 3, 4, 5, 6, 7, 8"),
    (16, "Le chat est sur la table et le chien est sous la table, et il dort"),
    (18, "日本語のテキストはここにあります。"),
    (20, "- apples\n- oranges\n- bananas\n- pears\n- plums\n- cherries\n- grapes\n"),
    (21, _CHAT),
    (28, '{"name": "Anna", "age": 31, "city": "Paris", "likes": ["bread", "eggs"]}'),
    (32, _STORY),
    (40, _CODE),
    (48, "Привет, как дела? Меня зовут Анна, и я живу в маленьком доме у леса."),
    (64, _CODE),
    (80, _LOG),
    (100, _STORY),
    (150, _LOG),
    (1000, _LOG),
]
LENGTHS: Final = [length for length, _ in _CUTS]


def prompts(lengths: list[int] = LENGTHS) -> list[list[int]]:
    """Token ids of the prompts of these lengths."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    made = [tokenizer.encode(text).ids[:length] for length, text in _CUTS if length in lengths]
    assert [len(tokens) for tokens in made] == lengths
    return made

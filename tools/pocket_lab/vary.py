"""Rephrasing: small grammars written as one string, and the careless ways in which people type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from . import tables

_CHOICE = re.compile(r"\(([^()]*)\)")
_OPENERS = (
    "Please tell me: ",
    "Hi! ",
    "Hello, ",
    "Hey, ",
    "Quick question: ",
    "So, ",
    "Ok, ",
    "One more thing: ",
    "Sorry, ",
)
# The grammars are written in small letters; this is how names are mostly typed.
_NAMES: dict[str, str] = {name.lower(): name for name in tables.read("talk")["spelling"]}
_NAME = re.compile(
    r"(?<![\w/$`-])(" + "|".join(map(re.escape, sorted(_NAMES, key=len, reverse=True))) + r")(?![\w/`-])(?!\+)"
)
_BEFORE = (
    "I am new here.", "I have a question.", "I am writing a program.", "I read the documentation.", "My friend asked me this.",
    "Sorry to ask.", "I could not find it.", "I am confused.", "It is my first day.", "Just curious.", "I have an app.", "We have a tool.",
)  # fmt: skip
_LIGHT = frozenset(
    [
        "a",
        "an",
        "the",
        "do",
        "does",
        "i",
        "is",
        "are",
        "to",
        "of",
        "in",
        "it",
        "my",
        "me",
        "you",
        "can",
        "how",
        "what",
        "which",
        "there",
    ]
)
_CLOSERS = (" please", ", please", " thanks", " Please be brief.")


def expand(pattern: str, rng: Random) -> str:
    """Choose one alternative of every `(a|b|c)` in `pattern`, innermost first, at random."""
    while found := _CHOICE.search(pattern):
        pattern = pattern[: found.start()] + rng.choice(found[1].split("|")) + pattern[found.end() :]
    return pattern


def expansions(pattern: str) -> list[str]:
    """Every text that `expand` can make of `pattern`."""
    found = _CHOICE.search(pattern)
    if not found:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [text for choice in found[1].split("|") for text in expansions(head + choice + tail)]


def typed(question: str, rng: Random) -> str:
    """`question` as people type it: an opener, a missing question mark, no capitals, a slip of the keys."""
    if rng.random() < 0.8:
        question = _NAME.sub(lambda found: _NAMES[found[0]], question)
    text = question if rng.random() < 0.08 else question[0].upper() + question[1:]
    if rng.random() < 0.12:
        opener = rng.choice(_OPENERS)
        text = (
            opener + text
            if opener[-2] in ".!:"
            else opener + (text if text.startswith("I ") else text[0].lower() + text[1:])
        )
    if rng.random() < 0.08:
        text = f"{rng.choice(_BEFORE)} {text}"
    if rng.random() < 0.06:
        # As people type into a search box: the words that carry the meaning, and few others.
        text = " ".join(word for word in text.split(" ") if word.lower() not in _LIGHT or rng.random() < 0.4) or text
    ends = ("?", "?", "?", "", ".", "??", " ?") if rng.random() < 0.5 else ("?",)
    text += rng.choice(ends)
    if rng.random() < 0.06:
        text = text.rstrip("?. ") + rng.choice(_CLOSERS)
    if rng.random() < 0.18:
        text = text.lower()
    # A slip inside a number would ask for another number.
    return _slip(text, rng) if rng.random() < 0.10 and not any(map(str.isdigit, text)) else text


def _slip(text: str, rng: Random) -> str:
    at = rng.randrange(1, max(2, len(text) - 1))
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at : at + 2][::-1] + text[at + 2 :]
    return text[:at] + text[at - 1] + text[at:]


def plain_key(question: str) -> str:
    """`question` without case and punctuation: two questions with one key count as the same question."""
    return " ".join(re.findall(r"[a-z0-9]+", question.lower()))


def listed(words: Sequence[str]) -> str:
    """The words as English lists them: `a, b and c`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]

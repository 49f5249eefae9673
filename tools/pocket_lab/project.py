"""Questions about mlx-sidecar itself, read from `topics.toml`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from . import tables
from .vary import expand, expansions, plain_key

_PLAINLY = 0.15


@dataclass(frozen=True)
class Topic:
    """An answer, the ways to ask for it, and questions kept out of training with the words they must bring up."""

    answer: str
    ask: tuple[str, ...]
    held: tuple[str, ...]
    expect: tuple[str, ...]

    def question(self, rng: Random) -> str:
        """One way to ask, without capital and question mark; the plainest one more often than any other."""
        return expansions(self.ask[0])[0] if rng.random() < _PLAINLY else expand(rng.choice(self.ask), rng)


def topics(parameters_m: str) -> tuple[Topic, ...]:
    """All topics; `parameters_m` is the size by which pocket describes itself, in millions of parameters.

    Raises ValueError if a held-out question can come up in training word for word.
    """
    table = tables.read("topics")
    found = []
    for entry in table["topic"]:
        ask = tuple(_worded(pattern, table["words"]) for pattern in entry["ask"])
        answer = entry["answer"].replace("{million}", parameters_m)
        found.append(Topic(answer, ask, tuple(entry["held"]), tuple(entry["expect"])))
    _check_held_out(found, table["fresh"])
    return tuple(found)


def fresh() -> dict[str, list[str]]:
    """Questions that were never used to tune this corpus, with the words of a right answer."""
    questions: dict[str, list[str]] = tables.read("topics")["fresh"]
    return questions


def _worded(pattern: str, words: dict[str, str]) -> str:
    for name, choices in words.items():
        pattern = pattern.replace(f"{{{name}}}", choices)
    return pattern


def _check_held_out(found: list[Topic], fresh: Iterable[str]) -> None:
    trained = {plain_key(text) for topic in found for pattern in topic.ask for text in expansions(pattern)}
    held = [*fresh, *(text for topic in found for text in topic.held)]
    leaked = [text for text in held if plain_key(text) in trained]
    if leaked:
        raise ValueError(f"held-out questions that training also asks: {leaked}")

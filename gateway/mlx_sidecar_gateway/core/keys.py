"""Keys, as their file has them: who may ask, for which models, how often, how much, and how urgently."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PRIORITIES = ("low", "normal", "high", "critical")
"""The sidecar's priorities, the least urgent first."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """The rights of those who hold one key.

    models: The names that may be used; None for all that the gateway offers.
    requests_a_minute, tokens_a_minute: Quotas; None for no bound.
    priority: That of a request which names none.
    highest_priority: The most urgent one that a request may name.
    """

    name: str
    models: frozenset[str] | None = None
    requests_a_minute: int | None = None
    tokens_a_minute: int | None = None
    priority: str = "normal"
    highest_priority: str = "critical"


ANYBODY = Key(name="")
"""The key of those who ask where none is needed."""


def read_keys(text: str) -> dict[str, Key]:
    """The keys of a file, each by itself: a line has a name, a key, and words such as ``rpm=60``; ``#`` is a comment.

    Raises ``ValueError`` naming the line, and the word that does not fit; also for a file without keys.
    """
    keys: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) < 2:
            raise ValueError(f"line {number} has no name and key")
        name, key, *limits = words
        if key in keys:
            raise ValueError(f"line {number} has the key of {keys[key].name!r} again")
        try:
            keys[key] = _with_limits(name, limits)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if not keys:
        raise ValueError("it has no keys")
    return keys


def is_at_most(priority: str, other: str) -> bool:
    """Whether ``priority`` is as urgent as ``other``, or less."""
    return PRIORITIES.index(priority) <= PRIORITIES.index(other)


def _with_limits(name: str, words: list[str]) -> Key:
    found: dict[str, Any] = {}
    for word in words:
        option, _, value = word.partition("=")
        if option not in WORDS:
            raise ValueError(f"{word}: no such word; there are {', '.join(f'{known}=' for known in WORDS)}")
        member, read = WORDS[option]
        if member in found:
            raise ValueError(f"{word}: {option} stands there twice")
        try:
            found[member] = read(value)
        except ValueError as error:
            raise ValueError(f"{word}: {error}") from None
    return _consistent(Key(name=name, **_with_default(found)))


def _with_default(found: dict[str, Any]) -> dict[str, Any]:
    """A key whose highest priority is below the usual one has that as its own."""
    highest = found.get("highest_priority")
    return {"priority": highest, **found} if highest == "low" else found


def _consistent(key: Key) -> Key:
    if not is_at_most(key.priority, key.highest_priority):
        raise ValueError(f"priority={key.priority}: max-priority={key.highest_priority} is below it")
    return key


def _models(value: str) -> frozenset[str]:
    names = value.split(",")
    if not all(names):
        raise ValueError("names of models are needed, with commas between them")
    return frozenset(names)


def _count(value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or int(value) < 1:
        raise ValueError("a whole number of at least 1 is needed")
    return int(value)


def _priority(value: str) -> str:
    if value not in PRIORITIES:
        raise ValueError(f"must be {', '.join(PRIORITIES[:-1])} or {PRIORITIES[-1]}")
    return value


WORDS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "models": ("models", _models),
    "rpm": ("requests_a_minute", _count),
    "tpm": ("tokens_a_minute", _count),
    "priority": ("priority", _priority),
    "max-priority": ("highest_priority", _priority),
}

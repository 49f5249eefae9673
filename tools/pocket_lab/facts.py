"""Small facts: capitals, colours, the calendar, animals, opposites, greetings in other languages (`facts.toml`)."""

from __future__ import annotations

from random import Random

from . import tables
from .chat import Chat, Probe, exchange, turn
from .vary import expand, typed

_DATA = tables.read("facts")
_TABLES = {table["name"]: table for table in _DATA["table"]}
_CALENDAR_WEIGHT = 12
DAYS: list[str] = _DATA["days"]
MONTHS: list[str] = _DATA["months"]


def entries(name: str) -> dict[str, str]:
    """Keys and values of the table `name`, as its sentences use them."""
    table = _TABLES[name]
    found: dict[str, str] = _TABLES[table.get("of", name)]["entries"]
    return found


def sentence(name: str, key: str) -> str:
    """The sentence that table `name` says about `key`."""
    answer: str = _TABLES[name]["answer"]
    return answer.format(key=key, Key=key[0].upper() + key[1:], value=entries(name)[key])


def statement(rng: Random) -> str:
    """A fact as a sentence that stands alone."""
    name = rng.choice(("capitals", "colours", "sounds", "legs", "opposites", "lists"))
    return sentence(name, rng.choice(list(entries(name))))


def fact(rng: Random) -> Chat:
    """One question about a small fact, with its answer."""
    names = list(_TABLES)
    weights = [_TABLES[name]["weight"] for name in names]
    name = rng.choices([*names, "calendar"], [*weights, _CALENDAR_WEIGHT])[0]
    question, answer = _calendar(rng) if name == "calendar" else _from_table(name, rng)
    return Chat(exchange(typed(expand(question, rng), rng), answer))


def _from_table(name: str, rng: Random) -> tuple[str, str]:
    key, value = rng.choice(list(entries(name).items()))
    return rng.choice(_TABLES[name]["ask"]).format(key=key, value=value), sentence(name, key)


def _calendar(rng: Random) -> tuple[str, str]:
    names, word = (DAYS, "day") if rng.random() < 0.5 else (MONTHS, "month")
    at, step = rng.randrange(len(names)), rng.choice((1, -1))
    where, follows = ("after", "follows") if step == 1 else ("before", "precedes")
    asked = rng.choice(
        (
            f"(what|which) {word} (comes|is|comes right|is the one) {where} {names[at]}",
            f"what comes {where} {names[at]}",
            f"(what|which) {word} {follows} {names[at]}",
        )
    )
    return asked, f"{names[(at + step) % len(names)]} comes {where} {names[at]}."


def probes() -> list[Probe]:
    """The held-out questions of this source."""
    return [Probe("facts", Chat((turn("user", asked),)), tuple(words)) for asked, words in _DATA["held"].items()]

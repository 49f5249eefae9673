"""Damage to the structure of JSON: members are left out, doubled, swapped, or given an unexpected value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from random import Random
from typing import Any

# Begins and ends raw text, because Python writes no such JSON. No text of a model contains it.
_MARK = "\ue000raw:"
_MARKED = json.dumps(_MARK)[:-1]
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROWN_BYTES = 500_000

_NUMBERS: list[Any] = [0, 1, -1, 2, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, 10**400]
_NUMBERS += [-(2**31), -(2**63), 0.0, 0.5, -0.0, 1e-320, 1e308, True, False]
_TEXTS = [
    "",
    " ",
    "\x00",
    "a",
    "\n",
    "é",
    "e\u0301",
    "\u200b",
    "\u202e",
    "\ufeff",
    "\ufffd",
    "𝟘",
    "👩‍👩‍👧",
    "İ",
    "ß",
    "ﬁ",
]
_TEXTS += ["../../etc/passwd", "%s%n", "{{ 1 }}", "{}", "null", "none", "<|im_end|>", "Ġ", "▁", "<0x0A>", "x" * 100_000]
_RAW = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "01",
    "1" * 5000,
    '"\\ud800"',
    '"\\udc00\\ud800"',
    "nul",
    "'a'",
]


def raw(text: str) -> str:
    """A value that is written into the file as ``text``."""
    return _MARK + text


def odd(pick: Random) -> Any:
    """Return a value that hardly any file holds."""
    return pick.choice(_ODD)(pick)


def written(value: Any) -> str:
    """Return ``value`` as JSON, with raw texts as they are."""
    text = json.dumps(value)
    return _STRING.sub(_unmarked, text) if _MARKED in text else text


def _unmarked(string: re.Match[str]) -> str:
    found: str = string[0]
    return json.loads(found)[len(_MARK) :] if found.startswith(_MARKED) else found


def _nested(pick: Random) -> Any:
    depth = pick.choice((2, 64, 127, 500, 5000, 100_000))
    begin, end = pick.choice((("[", "]"), ('{"a":', "}")))
    return raw(begin * depth + "0" + end * depth)


_ODD: Sequence[Callable[[Random], Any]] = [
    lambda pick: pick.choice(_NUMBERS),
    lambda pick: pick.choice(_NUMBERS),
    lambda pick: pick.choice(_TEXTS),
    lambda pick: raw(pick.choice(_RAW)),
    lambda pick: pick.choice([None, [], {}, [[]], [None], {"": None}, [{}], [True]]),
    lambda pick: [pick.choice(_NUMBERS)] * pick.choice((1, 2, 1000, 100_000)),
    lambda pick: {str(n): pick.choice(_NUMBERS) for n in range(pick.choice((1, 3, 10_000)))},
    _nested,
]


class _Place:
    """A member of a container inside of ``root``."""

    def __init__(self, holder: Any, key: Any) -> None:
        self.holder = holder
        self.key = key

    @property
    def value(self) -> Any:
        return self.holder[self.key]

    @value.setter
    def value(self, value: Any) -> None:
        self.holder[self.key] = value


def _keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []


def _place(pick: Random, root: Any) -> _Place:
    """Pick a place, those near the root rather than those in a list of thousands."""
    place = _Place(root, pick.choice(_keys(root)))
    while (inside := _keys(place.value)) and pick.random() < 0.7:
        place = _Place(place.value, pick.choice(inside))
    return place


def damaged(pick: Random, value: dict[str, Any], known: Sequence[dict[str, Any]] = ()) -> str:
    """Return the text of ``value`` with one to three changes. ``known``: members that have done harm before."""
    root = deepcopy(value)
    for _ in range(pick.choice((1, 1, 1, 2, 3))):
        if not root:
            break
        if known and pick.random() < 0.3:
            root.update(deepcopy(pick.choice(known)))
        else:
            pick.choice(_CHANGES)(pick, root)
    return written(root)


def _replace(pick: Random, root: Any) -> None:
    _place(pick, root).value = odd(pick)


def _negate(pick: Random, root: Any) -> None:
    """Replace a value by another of the same type, or nearly."""
    place = _place(pick, root)
    match place.value:
        case bool():
            place.value = pick.choice((not place.value, int(place.value), str(place.value)))
        case int() | float():
            place.value = pick.choice((-place.value, place.value + 1, place.value * 1000, 0, str(place.value)))
        case str():
            place.value = pick.choice(
                (_copies(place.value, 1000), place.value[::-1], place.value + "\x00", [place.value])
            )
        case list() | dict():
            place.value = pick.choice(([place.value], {"a": place.value}, str(place.value)[:10_000]))
        case _:
            place.value = odd(pick)


def _delete(pick: Random, root: Any) -> None:
    place = _place(pick, root)
    del place.holder[place.key]


def _double(pick: Random, root: Any) -> None:
    """Write a member twice, with two values, or an element many times."""
    place = _place(pick, root)
    if isinstance(place.holder, list):
        place.holder[place.key : place.key] = _copies([place.value], pick.choice((1, 100, 10_000)))
    else:
        first = written(place.value)
        place.value = raw(f"{first}, {json.dumps(place.key)}: {written(odd(pick))}")


def _copies(value: Any, wanted: int) -> Any:
    """Repeat ``value``, a text or a list, ``wanted`` times, or as often as a file of moderate size holds it.

    Elements are copies, so that a later change to one does not change thousands.
    """
    times = max(1, min(wanted, _GROWN_BYTES // len(written(value))))
    return value * times if isinstance(value, str) else [deepcopy(each) for _ in range(times) for each in value]


def _swap(pick: Random, root: Any) -> None:
    one, other = _place(pick, root), _place(pick, root)
    one_value, other_value = deepcopy(one.value), deepcopy(other.value)
    one.value = other_value
    if other.key in _keys(other.holder):
        other.value = one_value


def _rename(pick: Random, root: Any) -> None:
    place = _place(pick, root)
    if isinstance(place.holder, dict):
        name = pick.choice((place.key.upper(), place.key + "s", "", place.key[:-1], *_names(root)))
        place.holder[name] = place.holder.pop(place.key)


def _names(root: Any) -> Iterator[str]:
    return iter(list(root)[:40]) if isinstance(root, dict) else iter(())


def _grow(pick: Random, root: Any) -> None:
    place = _place(pick, root)
    if isinstance(place.value, str | list) and len(place.value) < 100:
        place.value = _copies(place.value, pick.choice((100, 10_000)))
    else:
        place.value = _copies([place.value], 20)


_CHANGES = (_replace, _replace, _replace, _negate, _negate, _delete, _double, _swap, _rename, _grow)

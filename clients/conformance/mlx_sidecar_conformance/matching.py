"""Matches values against the patterns of the conformance cases.

A value fits itself, an object one with more members, and a list one in any order. Operators are objects of one
member: ``$any`` something, ``$absent`` no such member, ``$type``, ``$len``, ``$one`` of these patterns, ``$list``
exactly these in this order, ``$has`` an element that fits, ``$beginning_of`` some of this text, ``$maybe`` an element
that may be missing. ``"$exact": true`` among members allows no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

ABSENT = object()

_TYPES = {"int": int, "number": int | float, "string": str, "object": dict, "array": list}


def fits(pattern: Any, value: Any) -> bool:
    """Whether ``value`` (``ABSENT`` for a missing member) fits ``pattern``."""
    if isinstance(pattern, dict):
        return _fits_object(pattern, value)
    if isinstance(pattern, list):
        return isinstance(value, list) and contains_all(pattern, value)
    if isinstance(pattern, float):
        return isinstance(value, int | float) and not isinstance(value, bool) and pattern == value
    return type(pattern) is type(value) and bool(pattern == value)


def contains_all(patterns: Sequence[Any], values: Sequence[Any], in_order: bool = False) -> bool:
    """Whether each pattern fits a value of its own and no value is left over; ``$maybe`` patterns may go without."""
    optional = [isinstance(pattern, dict) and "$maybe" in pattern for pattern in patterns]
    if in_order and not any(optional):
        return len(patterns) == len(values) and all(map(fits, patterns, values))
    return _assign(list(zip(patterns, optional, strict=True)), list(values))


def _fits_object(pattern: dict[str, Any], value: Any) -> bool:
    for name, operator in _OPERATORS.items():
        if name in pattern:
            return operator(pattern[name], value)
    members = {name: part for name, part in pattern.items() if not name.startswith("$")}
    if not isinstance(value, dict) or (pattern.get("$exact") and value.keys() - members.keys()):
        return False
    return all(fits(part, value.get(name, ABSENT)) for name, part in members.items())


def _assign(patterns: list[tuple[Any, bool]], values: list[Any]) -> bool:
    """Whether the patterns can be assigned to the values one to one; tries the first pattern on every value."""
    if not patterns:
        return not values
    (pattern, optional), *others = patterns
    for at, value in enumerate(values):
        if fits(pattern, value) and _assign(others, values[:at] + values[at + 1 :]):
            return True
    return optional and _assign(others, values)


def _is_a(name: str, value: Any) -> bool:
    return isinstance(value, _TYPES[name]) and not isinstance(value, bool)


def _is_list(patterns: list[Any], value: Any) -> bool:
    return isinstance(value, list) and contains_all(patterns, value, in_order=True)


def _begins(text: str, value: Any) -> bool:
    return isinstance(value, str) and value != "" and text.startswith(value)


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$absent": lambda _, value: value is ABSENT,
    "$any": lambda _, value: value is not ABSENT,
    "$one": lambda patterns, value: any(fits(pattern, value) for pattern in patterns),
    "$type": _is_a,
    "$len": lambda size, value: isinstance(value, list | dict | str) and len(value) == size,
    "$list": _is_list,
    "$has": lambda pattern, value: isinstance(value, list) and any(fits(pattern, part) for part in value),
    "$beginning_of": _begins,
    "$maybe": fits,
}

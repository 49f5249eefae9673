"""Patterns of the conformance cases: does a value fit, and do these replies fit those patterns?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ABSENT = object()

_TYPES = {"int": int, "string": str, "object": dict, "array": list}


def fits(pattern: Any, value: Any) -> bool:
    """Whether ``value`` (``ABSENT`` for a member that is not there) is what ``pattern`` describes."""
    if isinstance(pattern, dict):
        return _fits_object(pattern, value)
    if isinstance(pattern, list):
        return isinstance(value, list) and contains_all(pattern, value)
    if isinstance(pattern, float):
        return isinstance(value, int | float) and not isinstance(value, bool) and pattern == value
    return type(pattern) is type(value) and bool(pattern == value)


def _fits_object(pattern: dict[str, Any], value: Any) -> bool:
    if "$absent" in pattern:
        return value is ABSENT
    if value is ABSENT or "$any" in pattern:
        return value is not ABSENT
    if "$one" in pattern:
        return any(fits(option, value) for option in pattern["$one"])
    if "$type" in pattern:
        return isinstance(value, _TYPES[pattern["$type"]]) and not isinstance(value, bool)
    if "$len" in pattern:
        return isinstance(value, list | dict | str) and len(value) == pattern["$len"]
    if "$maybe" in pattern:
        return fits(pattern["$maybe"], value)
    members = {name: part for name, part in pattern.items() if not name.startswith("$")}
    if not isinstance(value, dict) or (pattern.get("$exact") and value.keys() - members.keys()):
        return False
    return all(fits(part, value.get(name, ABSENT)) for name, part in members.items())


def contains_all(patterns: Sequence[Any], values: Sequence[Any], in_order: bool = False) -> bool:
    """Whether each pattern fits a value of its own and no value is left over; ``$maybe`` patterns may go without."""
    optional = [isinstance(pattern, dict) and "$maybe" in pattern for pattern in patterns]
    if in_order and not any(optional):
        return len(patterns) == len(values) and all(map(fits, patterns, values))
    return _assign(list(zip(patterns, optional, strict=True)), list(values))


def _assign(patterns: list[tuple[Any, bool]], values: list[Any]) -> bool:
    """Try the first pattern on every value, the rest on the rest."""
    if not patterns:
        return not values
    (pattern, optional), *others = patterns
    for at, value in enumerate(values):
        if fits(pattern, value) and _assign(others, values[:at] + values[at + 1 :]):
            return True
    return optional and _assign(others, values)

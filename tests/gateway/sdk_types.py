"""The members that an SDK's types say a request may have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from typing_extensions import is_typeddict


def typed_dicts(hint: Any) -> Iterator[type[Any]]:
    """The TypedDicts that a hint is made of: itself, or those in its unions, lists and annotations."""
    if is_typeddict(hint):
        yield hint
    for inner in get_args(hint):
        yield from typed_dicts(inner)


def members(typed_dict: type[Any]) -> dict[str, Any]:
    """The members of a TypedDict, by name."""
    return get_type_hints(typed_dict)


def type_of(typed_dict: type[Any]) -> str | None:
    """The value of its member ``type``, where that tells it from others."""
    values = [value for value in _flat(members(typed_dict).get("type")) if isinstance(value, str)]
    return values[0] if len(values) == 1 else None


def _flat(hint: Any) -> Iterator[Any]:
    if not get_args(hint):
        yield hint
    for inner in get_args(hint):
        yield from _flat(inner)
